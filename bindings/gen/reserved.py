# SPDX-License-Identifier: Apache-2.0
"""Keywords of every target language: names that no parameter and no field may have.

Keywords only. Library names (free, log, len) are fine: a field or parameter of that name is legal in every target.
"""

_KEYWORDS = {
    "C": """alignas alignof auto bool break case char const constexpr continue default do double else enum extern false
        float for goto if inline int long nullptr register restrict return short signed sizeof static static_assert
        struct switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while asm""",
    "C++": """alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t
        class
        co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype
        default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
        long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
        reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template
        this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t
        while xor xor_eq""",
    "Rust": """abstract as async await become box break const continue crate do dyn else enum extern false final fn for
        gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super trait
        true try type typeof unsafe unsized use virtual where while yield""",
    "Go": """break case chan const continue default defer else fallthrough for func go goto if import interface map
        package range return select struct switch type var""",
    "Python": """and as assert async await break case class continue def del elif else except finally for from global if
        import in is lambda match nonlocal not or pass raise return try type while with yield""",
}

_LANGUAGES = {language: frozenset(words.split()) for language, words in _KEYWORDS.items()}


def languages_reserving(name: str) -> list[str]:
    """The target languages in which name is a keyword."""
    return [language for language, words in _LANGUAGES.items() if name in words]
