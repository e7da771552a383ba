import Foundation

/// The service under measurement, seen from outside.
struct Watched {
  let url: String
  let process: pid_t

  /// What `/metrics` says.
  struct Figures {
    var states: [String: String] = [:]
    var failed: Set<String> = []
    var (checks, looks, late) = (0, 0.0, 0.0)
    var alive: Int { states.values.count { $0 == "alive" } }
  }

  func get(_ path: String) throws -> String {
    let curl = Process()
    curl.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    curl.arguments = ["curl", "--silent", "--max-time", "60", "\(url)\(path)"]
    let pipe = Pipe()
    curl.standardOutput = pipe
    try curl.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    curl.waitUntilExit()
    return text
  }

  func figures() throws -> Figures {
    var figures = Figures()
    func label(_ name: String, _ line: Substring) -> String? {
      line.firstRange(of: "\(name)=\"").map { String(line[$0.upperBound...].prefix { $0 != "\"" }) }
    }
    for line in try get("/metrics").split(separator: "\n") where !line.hasPrefix("#") {
      guard let end = line.lastIndex(of: " "), let value = Double(line[line.index(after: end)...]) else { continue }
      if line.hasPrefix("grass_host_state{"), value == 1, let host = label("host", line) {
        figures.states[host] = label("state", line)
      } else if line.hasPrefix("grass_checks_total") {
        figures.checks += Int(value)
      } else if line.hasPrefix("grass_check_success"), value == 0, let host = label("host", line) {
        figures.failed.insert(host)
      } else if line.hasPrefix("grass_fleet_looks_total ") {
        figures.looks = value
      } else if line.hasPrefix("grass_fleet_look_delay_max_seconds ") {
        figures.late = value
      }
    }
    return figures
  }

  private func contents(_ name: String) -> String {
    (try? String(contentsOfFile: "/proc/\(process)/\(name)", encoding: .utf8)) ?? ""
  }

  /// A number of `/proc/PID/status`, KiB where it is a size.
  func kibibytes(_ name: String) -> Int {
    let line = contents("status").split(separator: "\n").first { $0.hasPrefix("\(name):") }
    return Int(line?.dropFirst(name.count + 1).split(whereSeparator: { $0 == " " || $0 == "\t" }).first ?? "") ?? 0
  }

  /// What it took of processors so far.
  var processorSeconds: Double {
    let text = contents("stat")
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return 0 }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}

/// Follows `/events` by a process of curl, and says when each change of state came.
final class Follower: @unchecked Sendable {
  struct Event {
    var host: String
    var state: String
    /// When the look was that shows it, and when it was here, in seconds since 1970.
    var at: Double
    var received: Double
  }

  private let curl = Process()
  private let condition = NSCondition()
  // Under the condition's lock.
  private var events: [Event] = []

  init(_ url: String) throws {
    curl.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    curl.arguments = ["curl", "-sN", "\(url)/events"]
    let pipe = Pipe()
    curl.standardOutput = pipe
    try curl.run()
    var begun = Data()
    // The stream has begun once it says when to come again.
    while !String(decoding: begun, as: UTF8.self).contains("retry:") {
      begun += pipe.fileHandleForReading.availableData
    }
    Thread.detachNewThread { [self] in
      var text = ""
      while true {
        let data = pipe.fileHandleForReading.availableData
        let now = utcSeconds()
        if data.isEmpty { return }
        text += String(decoding: data, as: UTF8.self)
        while let end = text.range(of: "\n\n") {
          let event = text[..<end.lowerBound]
          if event.hasPrefix("event: state\ndata: "),
            let object = try? JSONSerialization.jsonObject(with: Data(event.dropFirst(19).utf8)) as? [String: Any],
            let host = object["host"] as? String, let state = object["state"] as? String,
            let at = object["at"] as? Double
          {
            condition.withLock {
              events.append(Event(host: host, state: state, at: at, received: now))
              condition.broadcast()
            }
          }
          text.removeSubrange(..<end.upperBound)
        }
      }
    }
  }

  /// The next that says that a host is in a state; nil where none comes in so many seconds.
  func next(of host: String, state: String, within seconds: Double) -> Event? {
    let end = Date(timeIntervalSinceNow: seconds)
    return condition.withLock {
      while true {
        if let index = events.firstIndex(where: { $0.host == host && $0.state == state }) {
          let event = events[index]
          events.removeAll()
          return event
        }
        guard condition.wait(until: end) else { return nil }
      }
    }
  }

  func end() { kill(curl.processIdentifier, SIGKILL) }
}
