import ArgumentParser
import Fleet
import Glibc
import Host
import Logging
import ServiceLifecycle
import UnixSignals

/// Watches a fleet until it is told to end.
struct RunCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Watches the hosts of a configuration, and answers over HTTP.",
    discussion: """
      Prints `ready http://HOST:PORT` once it answers. SIGHUP reads the configuration anew: hosts, users, logs and certificate; where it \
      listens and its database stay as they were. What is wrong with a new one is said, and the old one stays. SIGTERM ends it.
      """)

  @Argument(help: "The configuration, in YAML; grass-fleet check says what is wrong with one.")
  var file: String

  func run() async throws {
    signal(SIGPIPE, SIG_IGN)
    Heap.returnFreed()
    // One session over shared memory or TCP takes a file or two.
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      limit.rlim_cur = limit.rlim_max
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    let (read, problems) = ConfigurationReader.read(contentsOf: file)
    for problem in problems { writeNote("\(problem)") }
    guard let configuration = read else { throw ExitCode(1) }
    var log = Logger(label: "grass-fleet") { StreamLogHandler.standardError(label: $0) }
    log.logLevel = .info
    let store: FleetStore
    do throws(StoreError) { store = try FleetStore(path: configuration.database) } catch {
      writeNote("\(error)")
      throw ExitCode(1)
    }
    let watch = try FleetWatch(configuration, store: store, log: log)
    let server = try FleetServer(watch, configuration)
    if configuration.isOpen {
      log.notice("there are no users: whoever reaches \(configuration.listen) on this machine may do everything")
    }
    var quiet = log
    quiet.logLevel = .warning
    let application = try server.application(log: quiet) { port in
      var address = configuration.listen
      address.port = port
      writeLine("ready \(server.scheme)://\(address)")
    }
    let group = ServiceGroup(
      configuration: .init(
        services: [
          .init(
            service: WatchService(watch: watch, server: server, file: file, configuration: configuration, log: log)),
          .init(service: application),
        ], gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
    try await group.run()
    watch.stop()
    server.finish()
  }
}
