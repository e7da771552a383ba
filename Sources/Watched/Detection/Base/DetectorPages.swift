/// The documentation of the detectors, from their declarations.
public enum DetectorPages {
  /// Who asks a detector: a check, devices, or both.
  public static func place(of detector: any Detector.Type) -> String {
    if detector is SilentDevice.Type { return "watch" }
    let isDevices = DeviceDetectors.names.contains(detector.name)
    return detector is any DeviceOnly.Type ? "device" : isDevices ? "check, device" : "check"
  }

  /// All pages as one text in Markdown.
  public static var text: String {
    var text = """
      # Detectors

      What `grassctl check` and a device's own detectors (`grassd --detectors`) look for. This page is made from their \
      declarations: `grassctl detectors --markdown > docs/detectors.md`.


      """
    for kind in Finding.Kind.allCases {
      let detectors = Detectors.all.filter { $0.kind == kind }
      if detectors.isEmpty { continue }
      text += "## \(["fault": "Faults", "attack": "Attacks", "change": "Changes"][kind.rawValue] ?? kind.rawValue)\n\n"
      for detector in detectors { text += page(of: detector) }
    }
    text += "## What has no detector of its own, and why\n\n"
    for (what, why) in left { text += "- **\(what).** \(why)\n" }
    return text
  }

  /// What is known to go wrong or to be done to hosts and is not looked for as such.
  private static let left: [(what: String, why: String)] = [
    (
      "A CPU that spins for a lock",
      "It is found as soft-lockup, with the stack that says which lock; the queue of the lock itself is not read."
    ),
    (
      "A process that takes ever more memory or time",
      "It is nothing wrong until something runs out: oom-imminent, cpu-starvation."
    ),
    (
      "Swap thrashing",
      "Pages that go in and out show in grassctl vmstat, and stalls in grassctl psi. There is no rule yet that was held against hosts that swap."
    ),
    (
      "Tables of connections, degraded arrays, dead controllers",
      "Their structures belong to modules (nf_conntrack, md, nvme, scsi); the kernel's log tells of them (driver-error), and a disk that "
        + "does not answer is io-stall."
    ),
    (
      "Inodes, inotify watches and namespaces that run out",
      "Their counters belong to users and hosts that need them raise them; not built."
    ),
    (
      "A firewall that drops everything",
      "Whether a rule is meant, memory does not say: grassctl netfilter shows the hooks, grassctl net the routes."
    ),
    (
      "An unsynchronised clock",
      "clock-jump compares what was learned; how far a clock is off needs another clock to be trusted."
    ),
    (
      "Registers: the entry of system calls, the table of interrupts, write protection",
      "They are not in memory. Their effects are: changed-text, foreign-hook, changed-data, ownerless-code."
    ),
    (
      "Processes that use io_uring alone",
      "That is no wrong, and memory shows them as all others: packet-socket, reverse-shell, injected-code and miner judge what they have and do."
    ),
    (
      "CPU time of nobody",
      "Time that CPUs were busy and no task was charged for would be work that hides; interrupts and hypervisors take such time on every "
        + "host, so the rule cried wolf. A task that hides is hidden-process."
    ),
    (
      "Escapes from containers",
      "What gives root outside is found: stolen-credentials, stolen-capabilities, release-agent, helper-path. A container that was given the "
        + "host's namespaces looks the same and is somebody's decision."
    ),
    (
      "Hidden sockets",
      "A socket that leaves its table gets no packets any more, so who hides one changes what shows them: foreign-operations, "
        + "foreign-hook, changed-text."
    ),
    (
      "Files that were changed in the page cache alone",
      "Code that runs is compared with its file by injected-code. Data files have nothing in memory that says what they ought to hold."
    ),
    (
      "Live patches",
      "They are attached through ftrace, and show in grassctl ftrace with their module as owner; one without owner is foreign-hook."
    ),
  ]

  private static func page(of detector: any Detector.Type) -> String {
    let looks = detector.needsOneLook || detector is any DeviceOnly.Type ? "" : "Two looks have to agree. "
    let techniques = detector.techniques.isEmpty ? "" : " ATT&CK: \(detector.techniques.joined(separator: ", "))."
    return """
      ### \(detector.name)

      \(detector.summary)

      - **Rule.** \(detector.rule)
      - **Looks like it.** \(detector.looksLike)
      - **Next.** \(detector.remedy)
      - \(looks)Compared with: \(detector.baseline.rawValue). Asked by: \(place(of: detector)).\(techniques)


      """
  }
}
