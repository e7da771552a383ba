import ArgumentParser
import Daemon
import Glibc
import Keys
import Links
import LinuxKernel
import Logging
import Region
import ToolOptions

/// Serves a watched host's memory to remote hosts.
struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Watch a host's memory from outside it, and serve remote hosts.",
    discussion: """
      Runs a monitor over FILE and answers at each URL until it gets SIGINT or SIGTERM. It prints one line \
      "ready URL" for each link once it answers there, and with --keys its own key. SIGHUP makes it read --monitors again: new monitors take the \
      place of the old ones, and requests wait meanwhile.

      EXIT STATUS: 0 after a signal asked it to end; 1 when the memory cannot be opened or a link cannot be \
      served, with the reason on standard error; 64 for wrong usage.
      """)

  @Option(
    help:
      "The watched memory: a guest's shared RAM file, a raw image, an ELF core, LiME, or a driver that shows this machine's own."
  )
  var memory: String

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Where to answer: \(LinkKinds.all.map { "\($0.form) \($0.serving)" }.joined(separator: ", ")).")
  )
  var listen: [String]

  @Option(
    help: ArgumentHelp(
      "How many requests can be in flight, over all remote hosts: 1 to \(RegionLayout.mostSlots), of a GPU to \(RegionLayout.mostSlotsOfGPU). As many sessions can there be at once. "
        + "(default: \(RegionLayout.usualSlots) on a processor, \(RegionLayout.mostSlotsOfGPU) on a GPU)",
      valueName: "slots"))
  var slots: Int?

  @Option(help: "The longest request in KiB; longer ones are cut.")
  var requestSize: Int = 64

  @Option(help: "The longest result in KiB; longer ones are cut. A slot takes as much memory as both, once it is used.")
  var responseSize: Int = 1024

  @Option(
    help: ArgumentHelp("What runs the monitor: cpu, gpu or gpu:N, as `grassd devices` lists them.", valueName: "name"))
  var device: DeviceName = .cpu

  @Option(
    help: ArgumentHelp(
      "Where the region lies: host memory, or, with --device gpu, that GPU's own, which is reached \(Self.deviceMemory).",
      valueName: "host|gpu"))
  var region: RegionPlace = .host

  @Option(
    parsing: .upToNextOption,
    help:
      "Monitors: sources in C or Swift, which are compiled for the kernel found, or one program made by `grassd compile`."
  )
  var monitors: [String] = []

  @OptionGroup var known: KnownOptions

  @Flag(
    help: "Have the device find out by itself what is wrong with the host, with the detectors that come with GRASS.")
  var detectors = false

  @Option(
    help: ArgumentHelp(
      "How often detectors look, in seconds. (default: 1 on a processor, 0.1 on a GPU)", valueName: "seconds"))
  var detectorPeriod: Double?

  @Option(
    help: ArgumentHelp(
      "How often all detectors of grassctl check look, too, in seconds, in a process of its own behind all others; 0 for never. "
        + "(default: 30 with --detectors, where the memory is another machine's)", valueName: "seconds"))
  var check: Double?

  @Option(
    help: ArgumentHelp(
      "What these looks compare the host with: a file of what was learned, as grassctl check --baseline makes it; where it is not there, it is "
        + "made once the host has booted. Without one, what is learned then holds until the next SIGHUP.",
      valueName: "file"),
    completion: .file())
  var baseline: String?

  @Option(
    help: ArgumentHelp(
      "What these looks leave out: a file of rules, as for grassctl check --allow; read anew for each look.",
      valueName: "file"),
    completion: .file())
  var allow: String?

  @Option(
    help: ArgumentHelp(
      "Ask the guest's QEMU by QMP at this Unix socket whether it runs the guest: tells a pause from a hang. An @ begins an abstract name.",
      valueName: "socket"))
  var qmp: String?

  @Option(
    help: ArgumentHelp(
      "Let in only those whose keys this file lists, a line each, as `grassctl key show` prints it, with what they may do before it: "
        + "watch,run,read grass-x25519 KEY. Needed for any address beyond this machine. Read at the start; then the list changes by "
        + "`grassctl key add` and `remove`. On a processor only, so far.",
      valueName: "file"),
    completion: .file())
  var keys: String?

  @Flag(help: "Read the file of --keys again whenever it changes: for hypervisors, whose root the guest's is not.")
  var trustFile = false

  @Option(
    help: ArgumentHelp(
      "The device's own private key, as `grassctl key new` makes it; without, the credential grass-identity, or one that is made at each start "
        + "and exists nowhere else.",
      valueName: "file"),
    completion: .file())
  var identity: String?

  @Option(
    help: ArgumentHelp("What certifies the device's own key, as `grassctl key certify` makes it.", valueName: "file"),
    completion: .file())
  var certificate: String?

  @Flag(
    help: """
      Let who has the rights read and acquire read the memory past the device, for grassctl dump --unsealed: over RDMA by the card alone, over TCP \
      from where it lies. Faster, and in clear, keys or not: for a network that nobody else is on.
      """)
  var acquireUnsealed = false

  @Flag(name: .shortAndLong, help: "Log more.")
  var verbose = false

  /// How links reach a region in a device's memory.
  private static var deviceMemory: String {
    LinkKinds.all.compactMap { kind in kind.deviceMemory.map { "\(kind.scheme):// \($0)" } }.joined(separator: ", ")
  }

  func validate() throws {
    if let detectorPeriod, !(detectorPeriod >= 0 && detectorPeriod <= 3600) {
      throw ValidationError("--detector-period takes 0 to 3600 seconds; with 0, one look follows the other.")
    }
    if let check, !(check == 0 || (check >= 1 && check <= 86400)) {
      throw ValidationError("--check takes seconds, from 1 on, or 0.")
    }
    if let check, check > 0, period == nil {
      throw ValidationError("--check needs --detectors: what it finds goes into their log.")
    }
    if baseline != nil || allow != nil, checkPeriod == nil {
      throw ValidationError("--baseline and --allow are for the looks of --check.")
    }
    if keys == nil, trustFile || identity != nil || certificate != nil {
      throw ValidationError("--trust-file, --identity and --certificate are for --keys.")
    }
    for (name, size) in [("--request-size", requestSize), ("--response-size", responseSize)] {
      guard (1...1 << 20).contains(size) else { throw ValidationError("\(name) takes 1 to 1048576 KiB.") }
    }
  }

  private var period: Duration? {
    detectors || detectorPeriod != nil ? .seconds(detectorPeriod ?? (device == .cpu ? 1 : 0.1)) : nil
  }

  /// Nil where nothing looks.
  private var checkPeriod: Duration? {
    if let check { return check > 0 ? .seconds(check) : nil }
    // A driver shows the memory of the machine that this runs on, whose CPUs are not to be taken unasked.
    var status = stat()
    let isDriver = stat(memory, &status) == 0 && status.st_mode & S_IFMT == S_IFCHR
    return period == nil || isDriver ? nil : Server.Options.usualCheckPeriod
  }

  func run() throws {
    LoggingSystem.bootstrap(StreamLogHandler.standardError)
    var logger = Logger(label: "grassd")
    logger.logLevel = verbose ? .debug : .info
    // Blocked before any thread starts, so that all inherit it and only `awaitSignal` takes them.
    let signals = TerminationSignals()
    do {
      let server = try Server(
        .init(
          memory: memory, listen: listen.map { url in try LinkAddress(url) },
          layout: RegionLayout(
            slots: slots ?? (device == .cpu ? RegionLayout.usualSlots : RegionLayout.mostSlotsOfGPU),
            requestSize: RegionLayout.requestSize(kibibytes: requestSize), responseSize: responseSize * 1024,
            words: period == nil ? 0 : RegionLayout.usualWords, keys: keys != nil),
          regionInGPU: region == .gpu, device: device, monitors: monitors,
          known: known.folder, detectorPeriod: period, checkPeriod: checkPeriod,
          rules: allow, baseline: baseline,
          keys: keys.map {
            .init(authorized: $0, followsFile: trustFile, identity: identity, certificate: certificate)
          }, hypervisor: qmp, isMemoryOpen: acquireUnsealed)
      ) { event in
        logger.log(event)
      }
      for address in server.addresses { print("ready \(address)") }
      if let key = server.publicKey { print("key \(key)") }
      fflush(nil)
      if let key = server.publicKey { logger.info("the device's own key is \(key.fingerprint)") }
      logger.info("serving \(server.description)")
      serving: while true {
        switch signals.wait(for: Server.interval) {
        case .end: break serving
        case .reload: server.reload()
        case nil: break
        }
        try server.look()
      }
      server.stop()
      logger.info("stopped")
    } catch let error as any CustomStringConvertible {
      let text = Array("grassd: \(error.description)\n".utf8)
      _ = write(STDERR_FILENO, text, text.count)
      throw ExitCode(1)
    }
  }
}

extension Logger {
  fileprivate func log(_ event: ServerEvent) {
    let level: Level =
      switch event.weight {
      case .notice: .info
      case .warning: .warning
      case .error: .error
      }
    log(
      level: level, "\(event.text)",
      metadata: Dictionary(event.details.map { ($0.name, "\($0.value)") }) { first, _ in first })
  }
}
