//! Commands that destroy, take over or open a way in: shells, databases, Windows, cloud tools.
//!
//! A table, read by [`super::anchors`]. Severity 900 and above is destruction or remote control; 500 to 800 is worth a
//! look and may be legitimate. Quotes and `${IFS}` between words are allowed for, since shells allow for them.

use super::DANGEROUS;
use super::anchors::Rule;

const fn command(severity: u16, anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector: DANGEROUS, severity, anchors, pattern, back: 0, ahead: 120, word: true }
}

const fn fragment(severity: u16, anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector: DANGEROUS, severity, anchors, pattern, back: 0, ahead: 120, word: false }
}

/// The detector's patterns.
pub(super) const RULES: &[Rule] = &[
    command(
        950,
        &["rm "],
        r"rm\s+(?:--?[a-z-]+\s+)*(?:-[a-z]*r[a-z]*|--recursive)\s+(?:--?[a-z-]+\s+)*['\x22]?(?:/(?:\*|\s|$|['\x22;&|]|(?:bin|boot|dev|etc|home|lib\w*|opt|proc|root|sbin|srv|sys|usr|var)\b)|~|\*|\.{1,2}/?(?:\s|$)|\$)",
    ),
    command(950, &["rm$", "rm\t"], r"rm(?:\$\{?ifs\}?|\t)+-[a-z]*[rf]"),
    command(800, &["rm "], r"rm\s+(?:--?[a-z-]+\s+)*-(?:[a-z]*r[a-z]*f|[a-z]*f[a-z]*r|r\s+-f|f\s+-r)[a-z]*\s+\S"),
    fragment(950, &[":(){", ":()  {", ":() {"], r":\(\)\s*\{\s*:\s*\|\s*:\s*&\s*\}"),
    command(950, &["mkfs"], r"mkfs(?:\.\w+)?\s+(?:-\S+\s+)*/dev/"),
    command(950, &["dd "], r"dd\s+(?:\w+=\S+\s+)*of=/dev/(?:sd|hd|nvme|vd|disk|mmcblk)"),
    fragment(950, &["> /dev/", ">/dev/"], r">\s?/dev/(?:sd|hd|nvme|vd|disk)"),
    command(900, &["chmod"], r"chmod\s+(?:-\S+\s+)*(?:0?777|a\+rwx|u\+s|\+s)\s+/?"),
    command(900, &["chown"], r"chown\s+-R\s+\S+\s+/(?:\s|$|etc|usr|bin|var)"),
    command(950, &["curl", "wget"], r"(?:curl|wget)\b[^\n|;]{0,100}\|\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\b"),
    command(
        950,
        &["curl", "wget"],
        r"(?:curl|wget)\b[^\n|;]{0,100}\|\s*(?:sudo\s+)?(?:python|perl|ruby|node|php)\d?\b",
    ),
    fragment(950, &["base64 "], r"base64\s+(?:-d|-D|--decode)[^\n|]{0,60}\|\s*(?:sudo\s+)?(?:ba|z)?sh\b"),
    fragment(950, &["/dev/tcp/"], r"/dev/tcp/\S+"),
    command(950, &["nc ", "ncat ", "netcat "], r"n(?:c|cat|etcat)\s+[^\n]{0,60}-[a-z]*[ec]\s+\S*(?:sh|cmd|powershell)"),
    command(950, &["bash -i"], r"bash -i\s*(?:>|&|<|\d)"),
    fragment(
        900,
        &["/etc/shadow", "/etc/sudoers", "/root/.ssh", ".ssh/id_", ".aws/credentials", "authorized_keys"],
        r"[^\s]+",
    ),
    fragment(700, &["/etc/passwd", "/proc/self/environ"], r"[^\s]+"),
    fragment(700, &["../../", "..\\..\\", "..%2f..%2f"], r"(?:\.\.[/\\%]){1}[^\s]{2,}"),
    command(500, &["sudo "], r"sudo\s+(?:-\S+\s+)*[a-z/]"),
    command(
        900,
        &["shutdown", "poweroff", "reboot"],
        r"(?:shutdown\s+(?:-[hrPsf]|/[srf]|now)|(?:poweroff|reboot)\s+(?:-f|--force))",
    ),
    command(900, &["kill -9", "killall"], r"(?:kill -9 -?1\b|killall\s+-9)"),
    command(900, &["iptables", "ufw", "setenforce"], r"(?:iptables\s+-F|ufw\s+disable|setenforce\s+0)"),
    command(900, &["history -c", "unset histfile"], r"(?:history -c|unset histfile)"),
    command(900, &["crontab"], r"crontab\s+-r\b"),
    command(950, &["drop "], r"drop\s+(?:table|database|schema|user|index)\s+(?:if\s+exists\s+)?[\w\x22`'\[.*]"),
    command(900, &["truncate "], r"truncate\s+table\s+\w"),
    command(900, &["delete from"], r"delete\s+from\s+[\w.\x22`]+\s*(?:;|$|--|where\s+(?:1\s*=\s*1|true))"),
    command(900, &["union "], r"union\s+(?:all\s+)?select\s+[\w*'(]"),
    fragment(900, &["' or ", "\" or ", "'or "], r"['\x22]\s*or\s+['\x22]?(\w+)['\x22]?\s*=\s*['\x22]?\w+"),
    command(950, &["xp_cmdshell", "into outfile", "load_file("], r"(?:xp_cmdshell|into outfile\s|load_file\()"),
    fragment(900, &["'; drop", "'; delete", "';drop", "'; exec"], r"';\s?(?:drop|delete|exec)\s"),
    command(950, &["format "], r"format\s+[a-z]:(?:\s|$|/)"),
    command(950, &["del ", "rd ", "rmdir "], r"(?:del|rd|rmdir)\s+(?:/[a-z]\s+)*/s\b"),
    command(950, &["vssadmin", "wbadmin", "bcdedit"], r"(?:vssadmin\s+delete|wbadmin\s+delete|bcdedit\s+/set)"),
    command(900, &["reg "], r"reg\s+(?:delete|add)\s+\\?['\x22]?hk"),
    command(950, &["powershell"], r"powershell(?:\.exe)?\s+[^\n]{0,80}?-(?:e|en|enc|encodedcommand)\s+[a-z0-9+/=]{8}"),
    command(
        900,
        &["invoke-expression", "iex(", "iex ", "downloadstring"],
        r"(?:invoke-expression\b|iex\s?\(|iex\s+\(?new-object|downloadstring\s?\()",
    ),
    command(900, &["net user", "net localgroup"], r"net\s+(?:user\s+\S+\s+\S+\s+/add|localgroup\s+administrators)"),
    fragment(800, &["<script", "javascript:"], r"(?:<script[\s>/]|javascript:\s*\w+[\(.])"),
    command(
        900,
        &["os.system", "os.popen", "subprocess.", "child_process", "runtime.getruntime"],
        r"(?:os\.(?:system|popen)|subprocess\.\w+|child_process['\x22)]*\.\w+|runtime\.getruntime\(\)\.exec)\s*\(\s*\[?\s*['\x22](?:rm|curl|wget|nc|bash|sh|sudo|chmod|dd|mkfs|cmd|powershell)\b",
    ),
    command(
        800,
        &["eval(", "exec("],
        r"(?:eval|exec)\(\s*(?:atob|base64|compile|__import__|request|input|decode|codecs)",
    ),
    fragment(900, &["__import__('os')", "__import__(\"os\")", "__subclasses__", "pickle.loads"], r"[^\s]{8,40}"),
    fragment(950, &["${jndi:"], r"\$\{jndi:(?:ldap|rmi|dns|ldaps)"),
    command(
        900,
        &["terraform", "kubectl", "gcloud", "aws ", "az "],
        r"(?:terraform\s+destroy|kubectl\s+delete\s+(?:ns|namespace|all|node|pv|--all)\b|gcloud\s+[^\n]{0,40}\bdelete\b|aws\s+(?:s3\s+(?:rm|rb)\s+[^\n]{0,60}--(?:recursive|force)|iam\s+(?:create-access-key|attach-user-policy)|ec2\s+terminate-instances)|az\s+group\s+delete)",
    ),
    command(800, &["git push"], r"git push\s+[^\n]{0,60}(?:--force\b|-f\b|--mirror)"),
    fragment(950, &["169.254.169.254", "metadata.google.internal"], r"[^\s'\x22]+"),
];
