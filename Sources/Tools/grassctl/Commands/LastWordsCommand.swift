import ArgumentParser
import Detection
import KernelViews
import Links
import Output
import Records
import Remote

/// What a kernel said and did last, as the device kept it.
struct LastWordsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "last-words", abstract: "Prints what a kernel said and did last, also when its host has booted anew.",
    discussion: """
      When the host's kernel panics, or all its CPUs stand still, the device keeps the newest 256 KiB of its log, its tasks that \
      ran or could not be woken with 4 KiB of their stacks, and counters, in memory that the host cannot reach: eight times, the \
      newest ones. Here the stacks are unwound, by the kernel's memory as long as it is there, else by what is kept of its \
      build (--known). Without NUMBER, the newest. Needs grassd --detectors.
      """)

  @Argument(help: "Which of them, as --list numbers them; the newest where not given.")
  var number: UInt64?

  @Option(help: HostOptions.urlHelp)
  var host: String

  @Flag(help: "List what is kept, the newest first, and end.")
  var list = false

  @Flag(help: "Print one JSON object; with --list, an array.")
  var json = false

  @Option(name: .shortAndLong, help: "How many records of the log are printed; JSON has all that were kept.")
  var tail: Int = 30

  @Option(help: "Seconds to wait for an answer of the host before giving up.")
  var timeout: Double = 5

  @Option(
    help: ArgumentHelp(
      "Where symbols and types of kernels that were proven are kept, to be used again. (default: ~/.cache/grass/builds)",
      valueName: "dir"))
  var known: String?

  @Flag(help: "Neither keep symbols and types nor use kept ones.")
  var noKnown = false

  func validate() throws {
    if known != nil, noKnown { throw ValidationError("Give --known or --no-known, not both.") }
    if tail < 0 { throw ValidationError("--tail takes a number of records.") }
  }

  func run() throws {
    let session = try HostOptions.connect(host, timeout: timeout)
    let builds = noKnown ? nil : known.map { BuildFolder(path: $0) } ?? .standard()
    if list {
      let heads = try reporting { try session.lastWords() }
      if json {
        writeOutput(JSON.lines(heads.map { JSON(LastWordsReport.value($0)) }))
      } else {
        for head in heads { writeOutput(LastWordsReport.line(head) + "\n") }
      }
      if heads.isEmpty { try sayNone(session) }
      return
    }
    guard let words = try reporting({ try read(session) }) else { return try sayNone(session) }
    let report = LastWordsReport(words, live: kernel(session, builds), known: builds)
    if json {
      var bytes: [UInt8] = []
      JSON(report.value).write(to: &bytes)
      writeOutput(bytes + [UInt8(ascii: "\n")])
    } else {
      writeOutput(report.text(tail: tail))
      for note in report.notes { writeNote(note) }
    }
  }

  /// Those that were asked for.
  ///
  /// Newer ones of the same death may take their place while they are read: then these are read.
  private func read(_ session: Session) throws(SessionError) -> LastWords? {
    for _ in 0..<5 {
      let heads = try session.lastWords()
      guard let head = number.map({ number in heads.first { $0.number == number } }) ?? heads.first else { return nil }
      if let words = try session.lastWords(number: head.number) { return words }
    }
    return nil
  }

  /// The kernel that is in the host's memory now, which may be another one, or none.
  private func kernel(_ session: Session, _ builds: BuildFolder?) -> Kernel? {
    do {
      let memory = try RemoteMemory(session: session)
      return try Kernel(memory: memory, hint: memory.kernelHint, known: builds)
    } catch {
      writeNote("the host's memory as it is now: \(error)")
      return nil
    }
  }

  private func sayNone(_ session: Session) throws {
    let keeps = try reporting { try session.info().features.contains(.words) }
    if let number, keeps {
      writeNote("\(host): there are no last words \(number); --list says which there are")
    } else {
      writeNote(
        keeps
          ? "\(host): no kernel has panicked or stood still since grassd began to look"
          : "\(host): the device keeps no last words; start grassd with --detectors")
    }
    throw ExitStatus.unreadable
  }
}
