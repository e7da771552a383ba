import Acquisition
import ArgumentParser
import Glibc
import Host
import ImageStore
import KernelViews
import Memory
import Remote
import Synchronization

struct DumpCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dump", abstract: "Writes an image of the host's physical memory.",
    discussion: """
      Formats: elf, a core with the kernel's VMCOREINFO, for crash, drgn, makedumpfile and Volatility; kdump, the same with each \
      page compressed by itself, flattened where it goes to standard output; lime; raw, each byte at its physical address, with \
      holes for what is not there. Until the image is whole the file is called FILE.part, and the same command again goes on \
      with it, on a host of the same boot. Memory that \
      cannot be read becomes zeros, is named in the image (of lime and raw: in FILE.notes beside it, and the classes of its frames in FILE.frames), and the exit status is then 1. \
      A host that runs changes while it is read. So what was copied is held against the memory again, and what differs is copied \
      once more, in rounds until no fewer pages differ: those that do not differ are all of one instant. The others are listed in the \
      image (of lime and raw: in FILE.moved), and commands that look at one of them later say so.
      --into keeps the image in a store instead (`grassctl help store`), where another \
      image of the same host takes, and reads, only what changed.
      """)

  @OptionGroup var source: SourceOptions

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Where to write it, which must not be there yet; - for standard output.", valueName: "file"))
  var output: String?

  @OptionGroup var store: StoreOptions

  @Option(help: "The image's format.")
  var format = FormatArgument(.elf)

  @Option(
    help: ArgumentHelp(
      """
      What to leave out, in makedumpfile's numbers, added up: 1 zeros, 2 page cache, 4 page cache with private data, 8 memory of \
      processes, 16 free pages.
      """, valueName: "number"))
  var level: Int?

  @Option(
    help: "crash leaves out all that is not the kernel's (level 31), evidence nothing (level 0). (default: evidence)")
  var profile: DumpProfile?

  @Option(help: "How a kdump's pages are compressed; Debian's makedumpfile knows only zlib of these.")
  var compression = CompressionArgument.zstd

  @Option(
    name: .customLong("encrypt-to"),
    help: ArgumentHelp(
      """
      Encrypt the image to this key, of age (age1…, or a file of such): it holds every secret of the host. May be given several \
      times. What is encrypted is what would go to standard output. Interrupted, it lies in as many files as it took, FILE.001 and so on: \
      decrypted one after the other they are the image.
      """, valueName: "key"))
  var recipients: [String] = []

  @Option(
    help: ArgumentHelp(
      "How often to hold what was copied against the memory, at most; 0 to write what was read and know nothing of it.",
      valueName: "number"))
  var rounds = 8

  @Flag(
    help: """
      Have the guest's CPUs stand still meanwhile: all of the image is then of one instant. Needs the right admin and a grassd with --qmp. If \
      this command dies, the guest goes on after 10 seconds.
      """)
  var pause = false

  @Option(
    help: ArgumentHelp(
      """
      By how many sessions with the host memory is read at once, 1 to \(ParallelMemory.most): over TCP that is as many connections. \
      (default: as many as pay, which is found out meanwhile)
      """, valueName: "number"))
  var streams: Int?

  @Flag(
    help: """
      Read the memory past the device, in clear: faster, and whoever is between can read it, too. Needs the rights read and acquire and grassd \
      --acquire-unsealed. What would be altered on the way shows when it is held against the memory, which goes through the device.
      """)
  var unsealed = false

  @Flag(help: "Say how far it has got, also where standard error is no terminal: a line every second.")
  var progress = false

  func validate() throws {
    if let level, !(0...31).contains(level) { throw ValidationError("--level takes a number from 0 to 31.") }
    if !(0...1000).contains(rounds) { throw ValidationError("--rounds takes a number from 0 to 1000.") }
    if (output == nil) == (store.into == nil) {
      throw ValidationError("Give either --output FILE or --into STORE: where is the image to go?")
    }
    if store.into != nil, !recipients.isEmpty {
      throw ValidationError(
        "--encrypt-to is for --output: a store's pages are kept once, whoever they are for. Keep STORE on an encrypted disk."
      )
    }
    if pause, source.host == nil { throw ValidationError("--pause needs --host URL: who is to stand still?") }
    if let streams {
      if source.host == nil { throw ValidationError("--streams needs --host URL.") }
      if !(1...ParallelMemory.most).contains(streams) {
        throw ValidationError("--streams takes a number from 1 to \(ParallelMemory.most).")
      }
    }
    if unsealed, source.host == nil { throw ValidationError("--unsealed needs --host URL.") }
    if level != nil, profile != nil { throw ValidationError("Give --level or --profile, not both.") }
  }

  private var chosenLevel: DumpLevel { level.map { DumpLevel(rawValue: $0) } ?? (profile ?? .evidence).level }

  func run() throws {
    Heap.keepFreed()
    let (looked, kernel) = try source.openMemory()
    Interruption.watch()
    let pause = try paused(looked)
    let memory = try spread(looked)
    defer { if let failure = pause?.end() { writeNote("\(failure)") } }
    let map = try frames(of: kernel)
    var contents = ImageContents(of: memory.segments, map, chosenLevel, kernel: kernel.map(KernelFacts.init))
    if pause != nil { contents.remarks.append("PAUSED=yes") }
    // What is an image already is of the instant that it says, and not of now.
    let stored = (looked as? StoredMemory)?.image
    let rounds = stored == nil ? rounds : 0
    if let stored { contents.remarks += stored.remarks }
    guard let output else {
      return try store.record(
        ImageRecording(
          of: memory, contents, host: store.name ?? source.host ?? source.memory ?? "", rounds: rounds,
          consistency: stored?.consistency, identity: Acquisition.identity(of: kernel)), isAsked: progress)
    }
    let acquisition = Acquisition(
      of: memory, contents, as: format.format, compression: compression.compression, rounds: rounds,
      consistency: stored?.consistency, identity: Acquisition.identity(of: kernel))
    signal(SIGPIPE, SIG_IGN)
    var meter = ProgressMeter(isAsked: progress)
    let encryption = try reporting {
      recipients.isEmpty || output != "-" ? nil : try Encryption(to: recipients, output)
    }
    let destination: Acquisition.Destination =
      if output == "-" { .descriptor(encryption?.input ?? STDOUT_FILENO) } else if recipients.isEmpty {
        .file(output)
      } else { .encrypted(output, to: recipients) }
    let summary: AcquisitionSummary
    do throws(AcquisitionError) {
      summary = try acquisition.run(to: destination) { progress in
        meter.show(progress)
        return !Interruption.isAsked
      }
    } catch {
      meter.end()
      encryption?.abandon()
      writeNote("\(error)")
      if error.isInterruption, output != "-" { writeNote("the same command again goes on with it") }
      if case .memory = error.reason { throw ExitStatus.unreachable }
      throw ExitStatus.partial
    }
    meter.end()
    try reporting { try encryption?.finish() }
    if summary.resumed > 0 {
      writeNote("went on after \(ProgressMeter.size(Double(summary.resumed))) that were there already")
    }
    try summary.keepNote(beside: output, format.format)
    sayWhatMoved(summary.consistency)
    sayFiles(summary.fileCount, output)
    guard summary.unreadCount > 0 else { return }
    for range in summary.unread.prefix(8) { writeNote("cannot be read: \(range.count) bytes from \(range.start) on") }
    writeNote("\(summary.unreadCount) bytes could not be read and are zeros in the image")
    throw ExitStatus.partial
  }

  /// Says where an image lies that is in several files.
  private func sayFiles(_ count: Int, _ output: String) {
    guard count > 1 else { return }
    let (first, last) = (Acquisition.path(ofFile: 1, of: output), Acquisition.path(ofFile: count, of: output))
    writeNote(
      "it lies in \(count) files, \(first) to \(last): decrypt them one after the other into one, in this order")
    if rounds > 0 { writeNote("it was interrupted, and says nothing of which of its pages are of one instant") }
  }

  /// The memory as it is copied: past the device where that is asked for, and by several sessions.
  private func spread(_ memory: any PhysicalMemory) throws -> any PhysicalMemory {
    guard let memory = memory as? RemoteMemory, let host = source.host else { return memory }
    let (timeout, isUnsealed) = (source.timeout, unsealed)
    let first: any PhysicalMemory = isUnsealed ? try reporting { try UnsealedMemory(memory) } : memory
    return ParallelMemory(first, count: streams) {
      let another = try RemoteMemory(session: HostOptions.session(host, timeout: timeout))
      return isUnsealed ? try UnsealedMemory(another) : another
    }
  }

  /// The host standing still, where that is asked for.
  private func paused(_ memory: any PhysicalMemory) throws -> HostPause? {
    guard pause, let memory = memory as? RemoteMemory else { return nil }
    guard memory.canPause else {
      writeNote(
        "device at \(memory.session.host): cannot have its host stand still; grassd needs --qmp, and the guest's QEMU a QMP socket"
      )
      throw ExitStatus.unreadable
    }
    return try reporting { try HostPause(memory.session) }
  }

  /// The classes of page frames; nil where there are none to be had and none are needed.
  private func frames(of kernel: Kernel?) throws -> FrameMap? {
    do {
      guard let kernel else { throw NoKernel() }
      let map = try kernel.frameMap()
      if let fault = map.faults.first {
        writeNote("descriptions of page frames cannot be read, and these stay in the image; the first: \(fault)")
      }
      return map
    } catch {
      guard chosenLevel.needsClasses else {
        writeNote("pages that are broken cannot be told from others: \(error)")
        return nil
      }
      writeNote("\(error)")
      writeNote("--level \(chosenLevel.rawValue) needs the classes of page frames; level 0 and 1 do without")
      throw ExitStatus.unreadable
    }
  }
}

extension AcquisitionSummary {
  /// Writes what an image says of itself beside one whose format has no place for it: to standard error where it goes to a pipe.
  func keepNote(beside output: String, _ format: ImageFormat) throws {
    guard !format.holdsNote else { return }
    guard output != "-" else {
      for line in note { writeNote(line) }
      return
    }
    try write(Array((note.joined(separator: "\n") + "\n").utf8), to: output + ".notes")
    if !frames.isEmpty { try write(frames, to: output + ".frames") }
    if consistency?.isWhole == false { try write(moved, to: output + ".moved") }
  }
}

/// Says on standard error which of an image's pages are of one instant, where others are not.
func sayWhatMoved(_ consistency: ImageConsistency?) {
  guard let consistency, !consistency.isWhole else { return }
  writeNote(
    "\(consistency.settled) pages are of one instant; \(consistency.movedCount) went on changing, and the image lists them"
  )
}

/// Why there are no classes of page frames.
private struct NoKernel: Error, CustomStringConvertible {
  var description: String { "no kernel was found that describes them" }
}

extension AcquisitionProgress.Stage {
  fileprivate func isSameRound(as other: Self) -> Bool {
    switch (self, other) {
    case (.copying, .copying): true
    case (.comparing(let own, _), .comparing(let round, _)): own == round
    default: false
    }
  }
}

/// A format as it is given on the command line.
struct FormatArgument: ExpressibleByArgument {
  let format: ImageFormat

  init(_ format: ImageFormat) { self.format = format }

  init?(argument: String) {
    guard let format = ImageFormat(rawValue: argument) else { return nil }
    self.format = format
  }

  static var allValueStrings: [String] { ImageFormat.allCases.map(\.rawValue) }
  var defaultValueDescription: String { format.rawValue }
}

/// How pages are compressed, as it is given on the command line.
enum CompressionArgument: String, ExpressibleByArgument, CaseIterable {
  case zstd, zlib

  var compression: PageCompression { self == .zstd ? .zstd : .zlib }
}

/// What an image is for.
enum DumpProfile: String, ExpressibleByArgument, CaseIterable {
  /// The kernel's own data: for whoever looks for why it died.
  case crash
  /// Everything: what nobody uses any more may be what somebody left.
  case evidence

  var level: DumpLevel { self == .crash ? .all : [] }
}

/// Whether the user wants to end what runs, by ^C or SIGTERM; a second one ends it at once.
enum Interruption {
  private static let flag = Atomic<Bool>(false)

  static var isAsked: Bool { flag.load(ordering: .relaxed) }

  static func watch() {
    // Made before a signal can come.
    flag.store(false, ordering: .relaxed)
    var action = sigaction()
    action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
    action.__sigaction_handler.sa_handler = { _ in Interruption.flag.store(true, ordering: .relaxed) }
    sigaction(SIGINT, &action, nil)
    sigaction(SIGTERM, &action, nil)
  }
}

/// Says on standard error how far a dump has got: one line over and over on a terminal, else a line every second where that is
/// asked for.
struct ProgressMeter {
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let isAsked: Bool
  private var last: (stage: AcquisitionProgress.Stage, elapsed: Duration)?

  init(isAsked: Bool) { self.isAsked = isAsked }

  mutating func show(_ progress: AcquisitionProgress) {
    guard isTerminal || isAsked else { return }
    if let last, last.stage.isSameRound(as: progress.stage),
      progress.elapsed - last.elapsed < .seconds(isTerminal ? 0.2 : 1), progress.done < progress.total
    {
      return
    }
    last = (progress.stage, progress.elapsed)
    var text = ""
    if case .comparing(let round, let moved) = progress.stage { text = "round \(round): \(moved) pages differ, " }
    text += "\(Self.size(Double(progress.done))) of \(Self.size(Double(progress.total)))"
    text += ", \(Self.size(progress.rate))/s"
    if let left = progress.left { text += ", \(Self.time(left)) left" }
    if isTerminal { Self.put("\r\u{1b}[K\(text)") } else { writeNote(text) }
  }

  /// Leaves the line.
  mutating func end() {
    if isTerminal, last != nil { Self.put("\n") }
    last = nil
  }

  private static func put(_ text: String) {
    let bytes = Array(text.utf8)
    _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
  }

  /// Bytes with a unit: `3.9 GiB`.
  static func size(_ bytes: Double) -> String {
    var (value, unit) = (bytes, 0)
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024, unit < units.count - 1 { (value, unit) = (value / 1024, unit + 1) }
    let tenths = Int((value * 10).rounded())
    return unit == 0 ? "\(Int(value)) B" : "\(tenths / 10).\(tenths % 10) \(units[unit])"
  }

  /// Minutes and seconds, with hours where there are some: `1:02:03`.
  static func time(_ duration: Duration) -> String {
    let seconds = duration.components.seconds
    func two(_ number: Int64) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let minutes = "\(seconds / 3600 > 0 ? two(seconds / 60 % 60) : "\(seconds / 60)"):\(two(seconds % 60))"
    return seconds / 3600 > 0 ? "\(seconds / 3600):\(minutes)" : minutes
  }
}
