import Fleet
import Host
import Logging
import ServiceLifecycle
import UnixSignals

/// Watches until the service ends, forgets what is old, and goes by a new configuration at SIGHUP.
struct WatchService: Service {
  let watch: FleetWatch
  let server: FleetServer
  let file: String
  let configuration: FleetConfiguration
  let log: Logger

  func run() async throws {
    try watch.start()
    let alerts = try AlertSender(watch, configuration, log: log)
    let signals = await UnixSignalsSequence(trapping: .sighup)
    try await withGracefulShutdownHandler {
      try await withThrowingDiscardingTaskGroup { group in
        group.addTask {
          for await _ in signals.cancelOnGracefulShutdown() { reload(alerts) }
        }
        group.addTask { await alerts.run() }
        group.addTask {
          while !Task.isShuttingDownGracefully {
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(60)) }
            Heap.trim()
          }
        }
        group.addTask {
          while !Task.isShuttingDownGracefully {
            watch.forget()
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(3600)) }
          }
        }
      }
    } onGracefulShutdown: {
      // Who follows lets go, so that the connections can end.
      watch.events.close()
    }
    alerts.finish()
  }

  private func reload(_ alerts: AlertSender) {
    let (read, problems) = ConfigurationReader.read(contentsOf: file)
    for problem in problems { writeNote("\(problem)") }
    guard let new = read else {
      log.error("the configuration was not read anew: it has mistakes")
      return
    }
    do {
      try watch.reload(new)
      try server.reload(new)
      try alerts.reload(new)
      log.notice("the configuration was read anew: \(new.hosts.count) hosts")
    } catch {
      log.error("the configuration was not read anew: \(error)")
    }
  }
}
