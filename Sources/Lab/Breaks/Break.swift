/// A way to break a guest on purpose, and what has to be found of it.
///
/// From a value like this, and its line in ``Breaks/all``, follow `grasslab break`, its row in the table that `scripts/lab` writes,
/// and what detectors are held against.
public struct Break: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    /// Something that goes wrong by itself.
    case fault
    /// Something that an intruder does.
    case attack
    /// Something that nobody may be told of as wrong: what it looks like is right.
    case quiet
  }

  /// What it takes beside a shell.
  public enum Need: String, Sendable, CaseIterable {
    /// The laboratory's kernel module, which has to be built for the guest's kernel.
    case module
    /// The laboratory's program.
    case program
    /// The kernel's modules for disks in files and for an Ethernet device.
    case devices
    /// The machine's monitor.
    case machine
  }

  /// What is done.
  public enum Deed: Sendable {
    /// A shell script in the guest, which ends.
    case script(String)
    /// A shell script in the guest, which never ends or takes the guest with it.
    case sent(String)
    /// The machine's CPUs stop.
    case pause
    /// The machine's CPUs go on.
    case resume
    /// All CPUs of the guest hang, with interrupts off.
    case hang
  }

  /// Short, of small letters and hyphens.
  public var name: String
  public var kind: Kind
  /// What is broken: one line.
  public var summary: String
  public var needs: Set<Need>
  public var deed: Deed
  /// What is there before and is right, such as who it is done to; nil where nothing has to be.
  public var preparation: Deed?
  /// What makes it good again; nil where nothing does.
  public var undo: Deed?
  /// The detectors that may find it: one is enough.
  public var detectors: [String]
  /// What the finding's title or one of its subjects has to hold.
  public var subject: String
  /// Seconds from the deed until it has to be found.
  public var within: Double
  /// Detectors that may find its effects beside it.
  public var effects: [String]
  /// Whether the guest takes commands and modules afterwards.
  public var survives: Bool
  /// How many CPUs the guest needs.
  public var cpus: Int

  init(
    _ name: String, _ kind: Kind, _ summary: String, needs: Set<Need> = [], after preparation: Deed? = nil,
    _ deed: Deed, undo: Deed? = nil, _ detectors: [String], subject: String = "", within: Double = 2,
    effects: [String] = [], survives: Bool = true,
    cpus: Int = 2
  ) {
    self.name = name
    self.kind = kind
    self.summary = summary
    self.needs = needs
    self.deed = deed
    self.preparation = preparation
    self.undo = undo
    self.detectors = detectors
    self.subject = subject
    self.within = within
    self.effects = effects
    self.survives = survives
    self.cpus = cpus
  }

  /// One that the kernel module does.
  ///
  /// `victim` is what the program does as the process that it is done to. One that is `sent` does not come back from being loaded.
  static func module(
    _ name: String, _ kind: Kind, _ summary: String, victim: String? = nil, options: String = "",
    alsoNeeds needs: Set<Need> = [], waits: Bool = true, _ detectors: [String], subject: String = "",
    within: Double = 2, effects: [String] = [],
    survives: Bool = true, cpus: Int = 2
  ) -> Break {
    let load = "insmod /modules/break.ko what=\(name)\(options.isEmpty ? "" : " \(options)")"
    let script = victim == nil ? load : "\(load) victim=$(cat /tmp/broken)"
    return Break(
      name, kind, summary, needs: needs.union(victim == nil ? [.module] : [.module, .program]),
      after: victim.map { .script(background($0)) },
      waits ? .script(script) : .sent(load), detectors, subject: subject, within: within, effects: effects,
      survives: survives, cpus: cpus)
  }

  /// One that the program does, and that ends with it.
  static func program(
    _ name: String, _ kind: Kind, _ summary: String, before: String = "", _ detectors: [String],
    subject: String = "", within: Double = 2, effects: [String] = [], survives: Bool = true, isEndable: Bool = true
  ) -> Break {
    Break(
      name, kind, summary, needs: [.program],
      .script((before.isEmpty ? "" : "\(before); ") + background(name)),
      undo: isEndable ? .script("kill -9 $(cat /tmp/broken)") : nil, detectors, subject: subject, within: within,
      effects: effects, survives: survives)
  }

  /// What starts the program in the background, leaves its number in `broken`, and fails where it has failed.
  static func background(_ deed: String) -> String {
    """
    breaker \(deed) </dev/null >/dev/null 2>/tmp/breaker & broken=$!; echo $broken >/tmp/broken; sleep 0.5; \
    kill -0 $broken 2>/dev/null || { cat /tmp/breaker; exit 1; }
    """
  }
}

/// Every way to break a guest.
public enum Breaks {
  public static let all: [Break] = faults + exhaustion + attacks + hooks + processes + quiet

  /// The break that is called `name`.
  public static func named(_ name: String) throws(LabError) -> Break {
    guard let found = all.first(where: { $0.name == name }) else {
      throw LabError("there is no break '\(name)'; grasslab break --list names them")
    }
    return found
  }
}
