import KernelViews
import Output
import Records
import Remote

/// A monitor whose records grassctl prints as what they mean.
protocol PrintedMonitor: MonitorRecords {
  /// For people.
  var text: String { get }
  /// For programs.
  var json: [JSON] { get }
}

/// What grassctl knows of the records of monitors, by their names.
enum PrintedMonitors {
  private static let known: [any PrintedMonitor.Type] = [
    ThreadList.self, CPUUsage.self, MemoryUsage.self, LifeSigns.self, PanicState.self,
  ]

  static func isKnown(_ name: String) -> Bool { known.contains { $0.monitor == name } }

  /// Nil where the monitor is not known, or its records are not those of this version's.
  static func parse(_ result: MonitorResult, of name: String) -> (any PrintedMonitor)? {
    known.first { $0.monitor == name }?.init(result)
  }
}

extension ThreadList: PrintedMonitor {
  var text: String {
    var table = Table([
      ("UID", .right), ("PID", .right), ("TID", .right), ("PPID", .right), ("S", .left), ("START", .right),
      ("TIME", .right), ("COMMAND", .left),
    ])
    for thread in threads {
      let name = thread.comm.printable
      table.add([
        "\(thread.uid)", "\(thread.tgid)", "\(thread.tid)", "\(thread.ppid)", String(thread.letter.rawValue),
        ElapsedTime.hundredths(thread.startTime), ElapsedTime.minutes(thread.userTime &+ thread.systemTime),
        thread.flags & Thread.kernelFlag != 0 ? "[\(name)]" : name,
      ])
    }
    return table.text()
  }

  var json: [JSON] {
    threads.map { thread in
      .object([
        ("pid", .integer(thread.tid)), ("tgid", .integer(thread.tgid)), ("ppid", .integer(thread.ppid)),
        ("uid", .integer(thread.uid)), ("state", .string(String(thread.letter.rawValue))),
        ("comm", .bytes(thread.comm)),
        ("start_nsec", .unsigned(thread.startTime)), ("utime_nsec", .unsigned(thread.userTime)),
        ("stime_nsec", .unsigned(thread.systemTime)), ("kthread", .bool(thread.flags & Thread.kernelFlag != 0)),
      ])
    }
  }
}

extension CPUUsage: PrintedMonitor {
  var text: String {
    let names = cpus.first?.times.map(\.name) ?? []
    var table = Table([("CPU", .right), ("ONLINE", .left)] + names.map { ($0.uppercased(), .right) })
    for cpu in cpus {
      table.add(
        ["\(cpu.number)", cpu.isOnline ? "yes" : "no"] + cpu.times.map { ElapsedTime.hundredths($0.nanoseconds) })
    }
    return table.text()
  }

  var json: [JSON] {
    cpus.map { cpu in
      .object(
        [("cpu", .integer(cpu.number)), ("online", .bool(cpu.isOnline))]
          + cpu.times.map { ($0.name + "_nsec", .unsigned($0.nanoseconds)) })
    }
  }
}

extension MemoryUsage: PrintedMonitor {
  var text: String {
    let width = lines.map(\.name.count).max() ?? 0
    return lines.map { line in
      "\(line.name):\(String(repeating: " ", count: width + 1 - line.name.count))\(line.bytes / 1024) kB\n"
    }.joined()
  }

  var json: [JSON] { [.object(lines.map { ($0.name, .unsigned($0.bytes / 1024)) })] }
}

extension LifeSigns: PrintedMonitor {
  var text: String {
    var table = Table([
      ("CPU", .right), ("ONLINE", .left), ("RUNS", .left), ("RUNNABLE", .right), ("SWITCHES", .right),
      ("CLOCK", .right),
    ])
    for cpu in cpus {
      table.add([
        "\(cpu.number)", cpu.isOnline ? "yes" : "no", cpu.isIdle ? "idle" : "a task", "\(cpu.runnable)",
        "\(cpu.switches)", ElapsedTime.hundredths(cpu.clock),
      ])
    }
    let panic = panicCPU.map { "PANIC on CPU \($0)\n" } ?? ""
    return "\(panic)jiffies \(jiffies)\n\(table.text())"
  }

  var json: [JSON] { [.object(members)] }

  var members: [(String, JSON)] {
    [
      ("jiffies", .unsigned(jiffies)), ("panic_cpu", panicCPU.map { .integer($0) } ?? .null),
      (
        "cpus",
        .array(
          cpus.map { cpu in
            .object([
              ("cpu", .integer(cpu.number)), ("online", .bool(cpu.isOnline)), ("idle", .bool(cpu.isIdle)),
              ("runnable", .integer(cpu.runnable)), ("switches", .unsigned(cpu.switches)),
              ("clock_nsec", .unsigned(cpu.clock)),
            ])
          })
      ),
    ]
  }
}

extension PanicState: PrintedMonitor {
  var text: String {
    let state = panicCPU.map { "PANIC on CPU \($0)" } ?? (isInOops ? "in an oops" : "alive")
    let lines = lines.flatMap { $0.record.lines }.map { $0.printable + "\n" }
    return "State: \(state)\nTaint: \(taint)\n\(lines.joined())"
  }

  var json: [JSON] {
    [
      .object([
        ("panic_cpu", panicCPU.map { .integer($0) } ?? .null), ("oops", .bool(isInOops)), ("tainted", .unsigned(taint)),
        ("log", .array(lines.map { JSON($0.record, LogView.columns(LogView.Options())) })),
      ])
    ]
  }
}
