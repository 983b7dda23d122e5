"""LaTeX that compiles as far as braces, columns and escapes tell, with every number."""

import re

from densityjax.ablation.latex import tex, to_latex


def test_latex_is_balanced_and_escaped(comparison, frame):
    text = to_latex(comparison, frame)
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 2
    for body in re.findall(r"\\begin\{tabular\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.match(r"\{([lr]+)\}", body)[1])
        rows = re.findall(r"^(.*) \\\\$", body, re.MULTILINE)
        assert len(rows) > 4
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
        assert [body.count(rule) for rule in (r"\toprule", r"\bottomrule")] == [1, 1]
    assert r"few\_2 \& more" in text
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    assert text.isascii()


def test_tex_escapes():
    assert tex("50 % of a_b & {c} # $1") == r"50 \% of a\_b \& \{c\} \# \$1"
    assert tex("a\\b~^") == r"a\textbackslash{}b\textasciitilde{}\textasciicircum{}"
    assert tex("−0.1 R²") == r"$-$0.1 R$^2$"


def test_every_score_is_there(comparison, frame):
    text = to_latex(comparison, frame)
    for row in comparison.scores:
        assert f" {row.value:.3f} " in text.replace("$-$", "-")
