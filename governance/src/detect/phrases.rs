//! Phrases that try to take over a model: prompt injection, and jailbreaks.
//!
//! A table, read by [`super::anchors`]. Phrases are English, with the commonest form in five more languages. They judge
//! wording only: a benign text about prompt injection is found as well, which is why severity, not presence, drives risk.

use super::anchors::Rule;
use super::{INJECTION, JAILBREAK};

const fn phrase(detector: u8, severity: u16, anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector, severity, anchors, pattern, back: 0, ahead: 160, word: true }
}

const fn around(detector: u8, severity: u16, anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector, severity, anchors, pattern, back: 80, ahead: 80, word: false }
}

/// Both detectors' phrases.
pub(super) const RULES: &[Rule] = &[
    phrase(
        INJECTION,
        900,
        &["ignore", "disregard", "forget", "neglect", "do not follow", "don't follow", "stop following"],
        r"(?:ignore|disregard|forget|neglect|do not follow|don't follow|stop following)\W+(?:\w+\W+){0,3}?(?:previous|prior|above|earlier|preceding|foregoing|all|any|every|everything|your|the|system|initial|original|former|current|existing|these|those|safety)\W+(?:\w+\W+){0,4}?(?:instruction|prompt|rule|guideline|directive|direction|command|system message|programming|training|constraint|restriction|guardrail|you were told|you have been told|you(?:'ve| have) learned)",
    ),
    phrase(
        INJECTION,
        900,
        &["overrid", "bypass", "circumvent", "supersede", "disable"],
        r"(?:overrid(?:e|es|ing)|bypass(?:es|ing)?|circumvent(?:s|ing)?|supersedes?|disabl(?:e|es|ing))\W+(?:\w+\W+){0,4}?(?:system prompt|instructions|safety (?:filter|check|measure|protocol|guideline|setting)s?|guardrails?|content (?:filter|polic)\w*|moderation|alignment)",
    ),
    phrase(
        INJECTION,
        900,
        &["ignor", "vergiss", "olvida", "oublie", "esque", "dimentica"],
        r"(?:ignor(?:iere|ieren sie|a|ez|e|ar)|vergiss|olvida|oublie[zr]?|esque[^\s]{1,2}a|dimentica)\W+(?:[^\s]+\s+){0,4}?(?:anweisung|instruccion|instruction|istruzion|instru[^\s]{1,4}es|befehl|regeln|reglas|r[^\s]{1,2}gles|regole)",
    ),
    phrase(
        INJECTION,
        850,
        &["from now on", "starting now"],
        r"(?:from now on|starting now)\W+(?:you\W+(?:will|must|are|shall|should|have to|may)\W+(?:\w+\W+){0,3}?(?:act|ignore|respond|answer|reply|obey|follow|never|not|behave|pretend|no longer|an?)|ignore|obey|act as|respond only)",
    ),
    phrase(
        INJECTION,
        850,
        &["new instruction", "new system prompt", "updated instruction", "real instruction", "actual instruction"],
        r"(?:new|updated|real|actual) (?:instructions?|system prompt)\W{0,3}(?::|follow|are as|override|supersede|from)",
    ),
    around(
        INJECTION,
        850,
        &[
            "system prompt",
            "initial instructions",
            "hidden instructions",
            "your instructions",
            "your prompt",
            "initial prompt",
        ],
        r"(?:reveal|show|print|repeat|output|display|leak|disclose|expose|dump|recite|echo|translate|tell me|give me|what(?:'s| is| are| was| were))\W+(?:\w+\W+){0,6}?(?:system prompt|initial instructions|hidden instructions|your (?:\w+ ){0,2}instructions|your (?:\w+ ){0,2}prompt|initial prompt)",
    ),
    around(
        INJECTION,
        850,
        &["the user", "the human", "the operator", "the customer"],
        r"(?:(?:do not|don't|never)\W+(?:tell|inform|notify|alert|mention (?:this|it) to|let)|without\W+(?:telling|informing|notifying|alerting))\W+(?:\w+\W+){0,2}?(?:the user|the human|the operator|the customer)\W+(?:\w+\W+){0,3}?(?:this|that you|about (?:this|these|it)|know)",
    ),
    Rule {
        detector: INJECTION,
        severity: 900,
        anchors: &[
            "<|im_start|>",
            "<|im_end|>",
            "<|system|>",
            "<|endoftext|>",
            "<<sys>>",
            "[inst]",
            "[/inst]",
            "</system>",
            "[system]",
            "### system",
            "### instruction",
            "begin system message",
            "end of prompt",
            "</user_input>",
            "<system>",
            "system override",
            "[end of context]",
        ],
        pattern: r"[\x00-\xff]+",
        back: 0,
        ahead: 0,
        word: false,
    },
    phrase(
        JAILBREAK,
        850,
        &[
            "you are now",
            "you're now",
            "act as",
            "pretend",
            "roleplay as",
            "role-play as",
            "simulate",
            "behave as",
            "respond as",
        ],
        r"(?:you are now|you're now|act as|pretend|role-?play as|simulate|behave as|respond as)\W+(?:\w+\W+){0,8}?(?:unrestricted|unfiltered|uncensored|amoral|unethical|jailbroken|no restrictions|no rules|no limits|no limitations|no filters?|without (?:any )?(?:restrictions|limits|limitations|rules|filters?|ethic\w*|moral\w*|guidelines)|free (?:from|of) (?:all|any|your|its)|not bound by|evil|malicious|developer mode|god mode|dan\b|do anything now)",
    ),
    phrase(JAILBREAK, 850, &["do anything now", "dan mode", "stay a dan"], r"(?:do anything now|dan mode|stay a dan)"),
    phrase(
        JAILBREAK,
        800,
        &["jailbreak", "jailbroken"],
        r"jailbr(?:eak|oken)\W+(?:mode|prompt|yourself|activated|enabled|the|this|ai|version|model)",
    ),
    phrase(
        JAILBREAK,
        850,
        &[
            "developer mode",
            "god mode",
            "sudo mode",
            "debug mode",
            "unrestricted mode",
            "admin mode",
            "maintenance mode",
        ],
        r"(?:developer|god|sudo|debug|unrestricted|admin|maintenance) mode\W+(?:is\W+)?(?:now\W+)?(?:enabled|activated|on\b|output|engaged|unlocked)",
    ),
    phrase(
        JAILBREAK,
        850,
        &["enable", "activate", "enter", "switch to", "unlock"],
        r"(?:enable|activate|enter|switch to|unlock)\W+(?:\w+\W+){0,2}?(?:developer|god|dan|jailbreak|unrestricted|uncensored|evil) mode",
    ),
    phrase(
        JAILBREAK,
        800,
        &[
            "you have no",
            "you do not have any",
            "you don't have any",
            "you are not bound",
            "you are free of",
            "you are free from",
        ],
        r"you (?:have no|do not have any|don't have any|are not bound by|are free (?:of|from))\W+(?:\w+\W+){0,3}?(?:restrictions|rules|limits|limitations|ethic\w*|moral\w*|guidelines|filters|guardrails|polic\w+)",
    ),
    phrase(
        JAILBREAK,
        800,
        &["without any", "without ethical", "without moral", "no ethical", "no moral", "regardless of", "ignoring all"],
        r"(?:without any|without|no|regardless of|ignoring all)\W+(?:\w+\W+){0,2}?(?:ethical|moral|safety|content|openai|anthropic|legal)\W+(?:\w+\W+){0,2}?(?:guidelines|restrictions|constraints|considerations|polic\w+|filters|limits|limitations|rules)",
    ),
    phrase(
        JAILBREAK,
        800,
        &["always intelligent and machiavellian", "evil confidant", "opposite mode", "stay in character", "anti-gpt"],
        r"(?:always intelligent and machiavellian|evil confidant|opposite mode|stay in character\W+(?:no matter|at all|always|and never)|anti-gpt)",
    ),
];
