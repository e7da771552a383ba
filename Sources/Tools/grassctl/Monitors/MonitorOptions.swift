import ArgumentParser
import Records
import Remote

/// What commands share that run one of GRASS's own monitors.
struct MonitorOptions: ParsableArguments {
  @Option(help: HostOptions.urlHelp)
  var host: String

  @Option(help: "Seconds to wait for an answer of the monitor.")
  var timeout: Double = 5

  func validate() throws {
    if !(timeout > 0 && timeout < 86400) { throw ValidationError("--timeout takes seconds, more than 0.") }
  }

  func connect() throws -> Session { try HostOptions.connect(host, timeout: timeout, slots: 1) }
}

extension Session {
  /// Runs a monitor, or says why not and exits.
  ///
  /// What is not whole is noted.
  func look<View: MonitorRecords>(as type: View.Type = View.self) throws -> (view: View, isPartial: Bool) {
    let run = try reporting { try self.run(View.monitor) }
    for fault in run.result.faults { writeNote("\(View.monitor): \(fault)") }
    guard let view = View(run.result) else {
      writeNote("\(View.monitor): these are not the records of this version's monitor")
      throw ExitStatus.unreadable
    }
    return (view, run.result.isPartial)
  }
}
