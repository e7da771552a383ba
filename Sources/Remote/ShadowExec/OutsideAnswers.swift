/// What is known of programs that ask, of some things, nobody who could be answered for: what they say of those is of this machine.
enum OutsideAnswers {
  private static let disk =
    "files on disk that it checks are this machine's; processes, modules and the network are the host's"
  private static let processor =
    "what it asks of the processor itself and of files on disk, as who runs it as a guest, is this machine's"

  private static let known: [String: String] = [
    "aide": disk, "chkrootkit": disk, "clamscan": disk, "debsums": disk, "lynis": disk, "rkhunter": disk,
    "tripwire": disk,
    "cpuid": processor, "lscpu": processor, "systemd-detect-virt": processor, "virt-what": processor,
    "journalctl": "the journal is on the host's disk, and not shown; dmesg has what the kernel keeps of its log",
    "modinfo": "modules' files are on the host's disk, and not shown; lsmod has those that are loaded",
  ]

  /// What is to be said before `command` runs; nil of programs of which nothing is known.
  static func warning(of command: [String]) -> String? {
    let name = String(command.first?.split(separator: "/").last ?? "")
    if ["unhide", "unhide-linux"].contains(name), command.contains("brute") {
      return "\(name): numbers that it tries by making processes are this machine's, and nothing is found so"
    }
    return known[name].map { "\(name): \($0)" }
  }
}
