import Foundation
import Lab
import Testing

extension GuestTests {
  /// What grassctl prints of a live guest against what the guest says of itself.
  ///
  /// The guest lives on between two looks, so its own view is taken before and after: what both agree on must be seen,
  /// what changed must be seen as one or the other.
  /// Monitors are compared here, too: a guest is slow to boot.
  @Suite(.serialized) struct ViewTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: guestKinds)
    func viewsAreWhatTheGuestSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]
      for threads in [false, true] {
        let before = try TaskOracle(guest, threads: threads)
        let printed = try grassctl.json(["ps"] + source + (threads ? ["--threads"] : []))
        let after = try TaskOracle(guest, threads: threads)
        try compareTasks(printed, before, after)
        // 5.10 has fewer threads of its own.
        #expect(printed.count > (threads ? kind.kernel == "5.10" ? 100 : 110 : 80))
      }

      let log = try grassctl.json(["dmesg"] + source)
      compareLog(log, try guest.run("dmesg -r").bytes)
      #expect(log.count > 100)

      let before = try HostOracle(guest)
      let printed = try #require(try grassctl.json(["info"] + source).first)
      try compareHost(printed, before, try HostOracle(guest))
      // A kernel may have been built without the fifth level, as Debian's 5.10 was.
      let hasFive = try guest.run("grep -qw la57 /proc/cpuinfo").status == 0
      #expect(printed["paging_levels"] as? Int == (hasFive ? 5 : 4))
      #expect(hasFive == (kind.paging == .fiveLevel) || kind.kernel.hasPrefix("5."))
      #expect(printed["panic"] is NSNull)

      try MonitorComparison(guest).compareAll()
    }
  }
}

/// What the guest says of itself as a host.
struct HostOracle {
  let uname: [String]
  let uptime: Double
  let load: [Double]
  let commandLine: String
  let tainted: Int
  let memory: [String: Int]
  let cpus: Int

  init(_ guest: Guest) throws {
    let text = try guest.run(
      """
      uname -s; uname -n; uname -r; uname -v; uname -m; cat /proc/uptime /proc/loadavg /proc/cmdline \
      /proc/sys/kernel/tainted; grep -c ^processor /proc/cpuinfo; cat /proc/meminfo
      """
    ).text
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    try #require(lines.count > 30)
    uname = Array(lines[0..<5])
    uptime = try #require(Double(lines[5].split(separator: " ")[0]))
    load = lines[6].split(separator: " ").prefix(3).compactMap { Double($0) }
    commandLine = lines[7]
    tainted = try #require(Int(lines[8]))
    cpus = try #require(Int(lines[9]))
    var memory: [String: Int] = [:]
    for line in lines[10...] {
      let words = line.split(whereSeparator: { $0 == ":" || $0 == " " })
      if words.count >= 2 { memory[String(words[0])] = Int(words[1]) }
    }
    self.memory = memory
  }
}

/// Compares every task and every field.
func compareTasks(_ printed: [[String: Any]], _ before: TaskOracle, _ after: TaskOracle) throws {
  let seen = Dictionary(
    try printed.map { (try #require($0["pid"] as? Int), $0) }, uniquingKeysWith: { first, _ in first })
  let stable = Set(before.tasks.keys).intersection(after.tasks.keys)
  #expect(stable.subtracting(seen.keys).sorted() == [], "tasks of the guest that were not seen")
  #expect(
    Set(seen.keys).subtracting(before.tasks.keys).subtracting(after.tasks.keys).sorted() == [],
    "tasks that the guest does not have")
  for (pid, task) in seen {
    let oracles = [before.tasks[pid], after.tasks[pid]].compactMap { $0 }
    guard oracles.count == 2, oracles[0].field(22) == oracles[1].field(22) else { continue }
    func check<T: Equatable>(_ name: String, _ value: T?, _ expected: (TaskOracle.Task) -> T?) {
      let allowed = oracles.map(expected)
      #expect(
        allowed.contains { $0 == value },
        "task \(pid) (\(String(decoding: oracles[0].comm, as: UTF8.self))): \(name) is \(String(describing: value)), the guest says \(allowed)"
      )
    }
    /// A number that changes from one moment to the next.
    func checkRange(_ name: String, _ allowed: ClosedRange<Int>) {
      guard let value = task[name] as? Int else {
        Issue.record("task \(pid): \(name) is missing")
        return
      }
      #expect(allowed.contains(value), "task \(pid): \(name) is \(value), the guest says \(allowed)")
    }
    check("tgid", task["tgid"] as? Int) { $0.tgid }
    check("ppid", task["ppid"] as? Int) { Int($0.field(4)) }
    // A kernel thread that is woken by the look at it is running in one look and idle in the other.
    let isWoken =
      task["kthread"] as? Bool == true && (oracles.map { $0.field(3) } + [task["state"] as? String]).contains("R")
    if !isWoken { check("state", task["state"] as? String) { $0.field(3) } }
    check("comm", (task["comm"] as? String)?.documentedBytes.withoutWork) { $0.comm.withoutWork }
    check("cmdline", (task["cmdline"] as? [String])?.map(\.documentedBytes)) { oracle in
      guard !oracle.commandLine.isEmpty else { return [] }
      let parts = oracle.commandLine.split(separator: 0, omittingEmptySubsequences: false).map(Array.init)
      return oracle.commandLine.last == 0 ? parts.dropLast() : parts
    }
    for (key, names) in [("Uid", ["uid", "euid", "suid", "fsuid"]), ("Gid", ["gid", "egid", "sgid", "fsgid"])] {
      check(key, names.compactMap { task[$0] as? Int }) { $0.ids[key] }
    }
    check("tty", task["tty"] is NSNull) { $0.field(7) == "0" }
    check("priority", task["priority"] as? Int) { Int($0.field(18)) }
    check("nice", task["nice"] as? Int) { Int($0.field(19)) }
    check("num_threads", task["num_threads"] as? Int) { Int($0.field(20)) }
    check("starttime", task["starttime"] as? Int) { Int($0.field(22)) }
    check("vsize", task["vsize"] as? Int) { Int($0.field(23)) }
    check("kthread", task["kthread"] as? Bool) { (Int($0.field(9)) ?? 0) & 0x20_0000 != 0 }
    let numbers = [14, 15, 24].map { field in oracles.map { Int($0.field(field)) ?? 0 } }
    let (user, system, pages) = (numbers[0], numbers[1], numbers[2])
    // The kernel divides the exact run time by sampled ticks, and keeps what it once said for itself alone: between its
    // two answers the other share may have had the whole growth, and a tick of rounding.
    let total = user[1] + system[1] + 1
    checkRange("utime", user[0]...max(user[0], total - system[0]))
    checkRange("stime", system[0]...max(system[0], total - user[0]))
    checkRange("rss", (pages.min() ?? 0)...(pages.max() ?? 0))
  }
}

extension [UInt8] {
  /// A name without what a kernel worker was doing, which changes from one moment to the next.
  fileprivate var withoutWork: [UInt8] {
    guard starts(with: Array("kworker/".utf8)), !starts(with: Array("kworker/R-".utf8)) else { return self }
    return Array(prefix { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: "+") })
  }
}

/// Compares the log line by line; the guest may have logged more since.
func compareLog(_ printed: [[String: Any]], _ dmesg: [UInt8], allowsMore: Bool = false) {
  let oracle = String(decoding: dmesg, as: UTF8.self).split(separator: "\n").map(String.init)
  var lines: [String] = []
  for record in printed {
    let nanoseconds = record["ts_nsec"] as? UInt64 ?? 0
    let seconds = String(format: "%5llu.%06llu", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1000)
    let priority = (record["facility"] as? Int ?? 0) * 8 + (record["level"] as? Int ?? 0)
    for line in (record["text"] as? String ?? "").split(separator: "\n", omittingEmptySubsequences: false) {
      lines.append("<\(priority)>[\(seconds)] \(line)")
    }
  }
  for (index, (line, expected)) in zip(lines, oracle).enumerated() where line != expected {
    Issue.record("log line \(index): '\(line)', the guest says '\(expected)'")
    break
  }
  if allowsMore { return }
  #expect(
    oracle.count >= lines.count && oracle.count - lines.count < 5, "\(lines.count) lines, the guest has \(oracle.count)"
  )
}

/// Compares the host's state; numbers that move must lie where they moved.
func compareHost(_ printed: [String: Any], _ before: HostOracle, _ after: HostOracle) throws {
  let names = ["sysname", "nodename", "release", "version", "machine"].map { printed[$0] as? String ?? "" }
  #expect(names == before.uname)
  #expect(
    (printed["cmdline"] as? String)?.trimmingCharacters(in: .whitespaces)
      == before.commandLine.trimmingCharacters(in: .whitespaces))
  #expect(printed["cpus_online"] as? Int == before.cpus)
  #expect((printed["tainted"] as? String == "") == (before.tainted == 0))
  let load = try #require(printed["loadavg"] as? [Double])
  for (index, value) in load.enumerated() {
    let range = min(before.load[index], after.load[index]) - 0.005...max(before.load[index], after.load[index]) + 0.005
    #expect(range.contains(value), "load \(index) is \(value), the guest says \(before.load) and \(after.load)")
  }
  // The kernel's last tick, which an idle guest may have had some seconds ago.
  let uptime = try #require(printed["uptime"] as? Double)
  #expect(uptime > before.uptime - 5 && uptime < after.uptime + 0.1)
  let memory = try #require(printed["meminfo"] as? [String: Int])
  #expect(memory.count >= 25)
  for (name, value) in memory {
    guard let low = before.memory[name], let high = after.memory[name] else {
      Issue.record("the guest's /proc/meminfo has no line \(name)")
      continue
    }
    // Between its two looks the guest started and ended the programs that took them; a look itself takes some pages.
    let slack = name.hasSuffix("Total") ? 0 : 1024
    #expect(
      (min(low, high) - slack...max(low, high) + slack).contains(value),
      "\(name) is \(value) kB, the guest says \(low) and \(high)")
  }
}
