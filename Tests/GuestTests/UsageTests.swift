import Foundation
import Lab
import Testing

extension GuestTests {
  /// Memory, slab caches and pressure of a live guest against its own /proc, taken before and after.
  @Suite(.serialized) struct UsageTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func memoryIsWhatTheGuestSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]

      let meminfo = try Self.numbers(guest, "/proc/meminfo")
      let vmstat = try Self.numbers(guest, "/proc/vmstat")
      let free = try #require(try grassctl.json(["free"] + source).first?["mem"] as? [String: Any])
      let printed = try #require(try grassctl.json(["vmstat"] + source).first)
      let vmstatAfter = try Self.numbers(guest, "/proc/vmstat")
      let meminfoAfter = try Self.numbers(guest, "/proc/meminfo")

      let total = try #require(meminfo["MemTotal"])
      #expect(free["total"] as? Int == total)
      for (key, name) in [("free", "MemFree"), ("shared", "Shmem"), ("available", "MemAvailable")] {
        let value = try #require(free[key] as? Int)
        let range = Self.range(meminfo[name], meminfoAfter[name], slack: 8192)
        #expect(range.contains(value), "\(key) is \(value), the guest says \(range)")
      }

      var compared = 0
      for (name, before) in vmstat {
        // Limits are worked out when /proc is read, and the last line is a constant for old programs.
        guard let value = printed[name] as? Int else {
          #expect(
            name.hasSuffix("_threshold") || name.hasPrefix("nr_memmap_") || name == "nr_unstable", "\(name) is missing")
          continue
        }
        // What each CPU has not yet folded in is told neither here nor there, but at other times.
        let isEvent = !name.hasPrefix("nr_")
        let range = Self.range(before, vmstatAfter[name], slack: isEvent ? 0 : 1024)
        #expect(range.contains(value), "\(name) is \(value), the guest says \(range)")
        compared += 1
      }
      #expect(compared > 100)
    }

    @Test(arguments: standardGuests) func slabCachesAreThoseOfSlabinfo(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      func oracle() throws -> [String: [Int]] {
        var caches: [String: [Int]] = [:]
        for line in try guest.run("tail -n +3 /proc/slabinfo").text.split(separator: "\n") {
          let words = line.split(separator: " ")
          // NAME active objects size objects-per-slab pages-per-slab : tunables 0 0 0 : slabdata active slabs 0
          if words.count >= 15 { caches[String(words[0])] = (words[1...5] + words[14...14]).compactMap { Int($0) } }
        }
        return caches
      }
      let before = try oracle()
      let printed = try grassctl.json(["slabtop", "--memory", guest.memoryPath])
      let after = try oracle()
      #expect(before.count > 80)
      let seen = Dictionary(printed.map { ($0["name"] as? String ?? "", $0) }, uniquingKeysWith: { first, _ in first })
      #expect(Set(before.keys).intersection(after.keys).subtracting(seen.keys) == [], "caches that were not seen")
      for (name, first) in before {
        guard let cache = seen[name], let last = after[name], first.count == 6, last.count == 6 else { continue }
        #expect(cache["objsize"] as? Int == first[2], "\(name)")
        #expect(cache["objperslab"] as? Int == first[3], "\(name)")
        #expect(cache["pagesperslab"] as? Int == first[4], "\(name)")
        for (key, index) in [("active_objs", 0), ("num_objs", 1), ("num_slabs", 5)] {
          let value = try #require(cache[key] as? Int)
          // The look itself opens files: a few slabs may come and go.
          let slack = index == 5 ? 4 : 4 * first[3]
          let range = Self.range(first[index], last[index], slack: slack)
          #expect(range.contains(value), "\(name): \(key) is \(value), the guest says \(range)")
        }
      }
    }

    @Test(arguments: standardGuests) func pressureIsThatOfProc(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      func oracle() throws -> [String: Int] {
        var totals: [String: Int] = [:]
        // The file name stands before each line: cpu:some avg10=0.00 … total=123
        for line in try guest.run("cd /proc/pressure && grep . *").text.split(separator: "\n") {
          let words = line.split(separator: " ")
          if let word = words.first, let total = words.last?.split(separator: "=").last {
            totals[String(word)] = Int(total)
          }
        }
        return totals
      }
      let before = try oracle()
      let printed = try grassctl.json(["psi", "--memory", guest.memoryPath])
      let after = try oracle()
      // Nothing counts waiting of all for the CPU until 5.12.
      try #require(before.count >= 5)
      var seen: [String: Int] = [:]
      for resource in printed {
        let name = try #require(resource["resource"] as? String)
        for kind in ["some", "full"] {
          if let stall = resource[kind] as? [String: Any] { seen["\(name):\(kind)"] = stall["total"] as? Int }
        }
      }
      for (key, first) in before {
        // The whole system cannot wait for the CPU: the kernel prints zero whatever it counted.
        if key == "cpu:full" { continue }
        let value = try #require(seen[key], "\(key) is missing")
        // The kernel folds in what happened since its last update when the file is read.
        let range = 0...(after[key] ?? first)
        #expect(range.contains(value), "\(key) is \(value), the guest says \(range)")
        #expect(value >= first - 5_000_000, "\(key) is \(value), the guest said \(first) before")
      }
    }

    @Test(arguments: standardGuests) func interruptsAreThoseOfProc(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      /// Counts by CPU, and the words behind them.
      func oracle() throws -> [String: (counts: [Int], text: String)] {
        var lines: [String: (counts: [Int], text: String)] = [:]
        for line in try guest.run("tail -n +2 /proc/interrupts").text.split(separator: "\n") {
          let words = line.split(separator: " ")
          guard let name = words.first?.dropLast() else { continue }
          let counts = words.dropFirst().prefix(2).compactMap { Int($0) }
          lines[String(name)] = (counts, words.dropFirst(1 + counts.count).joined(separator: " "))
        }
        return lines
      }
      let before = try oracle()
      let printed = try grassctl.json(["interrupts", "--memory", guest.memoryPath])
      let after = try oracle()
      let seen = Dictionary(printed.map { ($0["irq"] as? String ?? "", $0) }, uniquingKeysWith: { first, _ in first })
      #expect(Set(before.keys.filter { Int($0) != nil }).subtracting(seen.keys) == [], "interrupts that were not seen")
      #expect(seen.keys.contains { Int($0) != nil })
      for (name, line) in seen {
        let first = try #require(before[name], "the guest has no interrupt \(name)")
        let last = try #require(after[name])
        let counts = try #require(line["counts"] as? [Int])
        for (index, count) in counts.enumerated() {
          let range = Self.range(first.counts[index], last.counts[index], slack: 0)
          #expect(range.contains(count), "\(name) on CPU \(index) is \(count), the guest says \(range)")
        }
        let actions = (line["actions"] as? [String] ?? []).joined(separator: ", ")
        #expect(first.text.hasSuffix(actions), "\(name): '\(actions)', the guest says '\(first.text)'")
        if let chip = line["chip"] as? String, !chip.isEmpty { #expect(first.text.hasPrefix(chip), "\(name)") }
        if let number = line["hwirq"] as? Int { #expect(first.text.contains(" \(number)"), "\(name)") }
      }
    }

    @Test(arguments: standardGuests) func topAgreesWithProcStat(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      func oracle() throws -> [[Int]] {
        try guest.run("grep '^cpu[0-9]' /proc/stat").text.split(separator: "\n").map { line in
          line.split(separator: " ").dropFirst().compactMap { Int($0) }
        }
      }
      _ = try guest.run("(while :; do :; done) > /dev/null 2>&1 < /dev/null & echo $! > /tmp/burner")
      let before = try oracle()
      let printed = try grassctl.json(["top", "--interval", "2", "--memory", guest.memoryPath])
      let after = try oracle()
      let burner = try #require(
        Int(try guest.run("kill $(cat /tmp/burner); cat /tmp/burner").text.prefix { $0.isNumber }))
      let cpus = printed.filter { $0["cpu"] != nil }
      #expect(cpus.count == before.count)
      // user nice system idle iowait irq softirq steal, in hundredths of a second.
      for (cpu, (first, last)) in zip(cpus, zip(before, after)) {
        for (name, column) in [("user", 0), ("nice", 1), ("system", 2), ("irq", 5), ("softirq", 6), ("steal", 7)] {
          let ticks = try #require(cpu["\(name)_ns"] as? Int) / 10_000_000
          let range = Self.range(first[column], last[column], slack: 1)
          #expect(range.contains(ticks), "\(name) is \(ticks), the guest says \(range)")
        }
      }
      let processes = printed.filter { $0["pid"] != nil }
      let own = processes.first { $0["pid"] as? Int == burner }
      #expect((own?["percent"] as? Double ?? 0) > 30, "the process that burns time is not in \(processes)")
    }

    private static func numbers(_ guest: Guest, _ path: String) throws -> [String: Int] {
      var numbers: [String: Int] = [:]
      for line in try guest.run("cat \(path)").text.split(separator: "\n") {
        let words = line.split { $0 == " " || $0 == ":" }
        if words.count >= 2 { numbers[String(words[0])] = Int(words[1]) }
      }
      return numbers
    }

    private static func range(_ first: Int?, _ second: Int?, slack: Int) -> ClosedRange<Int> {
      let (first, second) = (first ?? 0, second ?? 0)
      return (min(first, second) - slack)...(max(first, second) + slack)
    }
  }
}
