import Foundation
import Lab
import Testing

extension GuestTests {
  /// What a live guest waits for: timers, work and locks, against /proc/timer_list, its workers and /proc/locks.
  @Suite(.serialized) struct WaitingTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func whatWaitsIsWhatTheGuestSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try timersAreThoseOfTimerList(guest)
      try workersAreTheGuests(guest)
      try locksHaveOwnersAndWaiters(guest)
      try heldLocksNameOwnersAndWaiters(guest)
    }

    @Test(arguments: guestKinds.filter { $0.kernel.hasSuffix("-rt") })
    func realTimeLocksNameOwnersAndWaiters(_ kind: GuestOptions) throws {
      try heldLocksNameOwnersAndWaiters(try SharedGuests.shared.guest(kind))
    }

    /// Locks that are held for good, on kernels with and without real-time locks: files' and directories' rwsems, and a
    /// futex that inherits priorities.
    private func heldLocksNameOwnersAndWaiters(_ guest: Guest) throws {
      let names = ["file-holder", "file-writer", "dir-holder", "dir-writer", "dir-reader", "pi-holder", "pi-waiter"]
      let output = try guest.run(
        """
        MODE=held /bin/workload > /dev/null 2>&1 & echo $! > /tmp/holders; sleep 5
        for name in \(names.joined(separator: " ")); do grep -lx "$name" /proc/[0-9]*/comm | cut -d / -f 3; done
        """
      ).text
      // A task under a lock that blocks ends by a signal all the same: user faults can be interrupted.
      defer { _ = try? guest.run("kill $(cat /tmp/holders)") }
      let numbers = output.split(separator: "\n").compactMap { Int($0) }
      try #require(numbers.count == names.count, "\(output)")
      let pids = Dictionary(uniqueKeysWithValues: zip(names, numbers))
      let all = try grassctl.json(["locks", "--memory", guest.memoryPath])
      func lock(waitedForBy name: String) throws -> [String: Any] {
        try #require(
          all.first { lock in
            (lock["waiters"] as? [[String: Any]])?.contains { $0["tid"] as? Int == pids[name] } ?? false
          }, "nothing is waited for by \(name): \(all)")
      }
      func owner(_ lock: [String: Any]) -> Int? { (lock["owner"] as? [String: Any])?["tid"] as? Int }
      func waiters(_ lock: [String: Any]) -> [Int] {
        (lock["waiters"] as? [[String: Any]] ?? []).compactMap { $0["tid"] as? Int }
      }
      let isRealTime = guest.options.kernel.hasSuffix("-rt")
      let file = try lock(waitedForBy: "file-writer")
      #expect(file["kind"] as? String == (isRealTime ? "rtmutex" : "rwsem"))
      #expect(owner(file) == pids["file-holder"] && waiters(file) == [pids["file-writer"]])
      let futex = try lock(waitedForBy: "pi-waiter")
      #expect(futex["kind"] as? String == "rtmutex")
      #expect(owner(futex) == pids["pi-holder"] && waiters(futex) == [pids["pi-waiter"]])
      // A real-time kernel's writer holds the lock inside and waits for the readers to leave.
      let directory = try lock(waitedForBy: isRealTime ? "dir-reader" : "dir-writer")
      if isRealTime {
        #expect(owner(directory) == pids["dir-writer"] && waiters(directory) == [pids["dir-reader"]])
      } else {
        #expect(directory["kind"] as? String == "rwsem" && directory["readers"] as? Int == 1)
        #expect(owner(directory) == pids["dir-holder"])
        #expect(waiters(directory) == [pids["dir-writer"], pids["dir-reader"]])
        let reads = (directory["waiters"] as? [[String: Any]] ?? []).compactMap { $0["reads"] as? Bool }
        #expect(reads == [false, true])
      }
    }

    private func timersAreThoseOfTimerList(_ guest: Guest) throws {
      _ = try guest.run("for i in 1 2 3; do sleep 77123 > /dev/null 2>&1 & echo $!; done > /tmp/sleepers")
      defer { _ = try? guest.run("kill $(cat /tmp/sleepers)") }
      let lines = try guest.run("sleep 0.2; cat /proc/timer_list").text.split(separator: "\n")
      let timers = try grassctl.json(["timers", "--memory", guest.memoryPath])
      // ` #0: <…>, hrtimer_wakeup, S:01` and in the next line ` # expires at FROM-TO nsecs [in …]`; both clocks run on, so
      // that what is compared are sleeps that last.
      var expected: [(function: String, expires: UInt64)] = []
      for (line, next) in zip(lines, lines.dropFirst()) where line.hasPrefix(" #") && next.hasPrefix(" # expires at ") {
        let function = line.split(separator: ",")[1].trimmingCharacters(in: .whitespaces)
        let times = next.dropFirst(" # expires at ".count).split(whereSeparator: { $0 == "-" || $0 == " " })
        if let to = UInt64(times[1]), to > 60_000_000_000_000 { expected.append((function, to)) }
      }
      #expect(expected.count >= 3)
      for timer in expected {
        let found = timers.filter { ($0["expires"] as? NSNumber)?.uint64Value == timer.expires }
        #expect(found.count == 1 && "\(found.first?["symbol"] ?? "")" == timer.function + "+0x0", "\(timer) \(found)")
      }
      let sleepers = timers.filter {
        $0["symbol"] as? String == "hrtimer_wakeup+0x0" && $0["comm"] as? String == "sleep"
      }
      let pids = Set(try guest.run("pidof sleep").text.split(separator: " ").compactMap { Int($0.filter(\.isNumber)) })
      #expect(Set(sleepers.compactMap { $0["tid"] as? Int }).isSubset(of: pids) && !sleepers.isEmpty)
      // The kernel's housekeeping: works that wait for the wheel, and threads that sleep for some ticks.
      #expect(
        timers.contains {
          $0["work"] as? String == "vmstat_shepherd+0x0" || $0["work"] as? String == "vmstat_update+0x0"
        })
      #expect(timers.allSatisfy { $0["owner"] as? String == "kernel" })
      let wheel = timers.filter { "\($0["queue"] ?? "")".hasPrefix("wheel") }.compactMap { $0["expires_in_ns"] as? Int }
      #expect(wheel.count > 5 && wheel.allSatisfy { abs($0) < 4 * 86_400_000_000_000 })
    }

    private func workersAreTheGuests(_ guest: Guest) throws {
      func threads() throws -> Set<Int> {
        // Rescuers belong to no pool.
        Set(
          try guest.run("grep -l '^kworker/[0-9u]' /proc/[0-9]*/comm").text.split(separator: "\n").compactMap {
            Int($0.split(separator: "/")[1])
          })
      }
      let before = try threads()
      let all = try grassctl.json(["workqueues", "--memory", guest.memoryPath])
      let workers = Set(all.filter { $0["kind"] as? String == "worker" }.compactMap { $0["tid"] as? Int })
      let after = try threads()
      // Workers come and go.
      #expect(before.intersection(after).subtracting(workers).isEmpty)
      #expect(workers.subtracting(before.union(after)).isEmpty && workers.count > 5)
      let queues = Set(all.filter { $0["kind"] as? String == "queue" }.compactMap { $0["name"] as? String })
      for name in ["events", "events_highpri", "mm_percpu_wq", "rcu_gp", "writeback"] { #expect(queues.contains(name)) }
      let pools = all.filter { $0["kind"] as? String == "pool" }
      #expect(Set(pools.compactMap { $0["cpu"] as? Int }) == [0, 1])
      #expect(pools.reduce(0) { $0 + ($1["workers"] as? Int ?? 0) } >= workers.count)
    }

    /// Two readers of a terminal: the first holds a mutex while it waits for input, the second waits for that mutex.
    private func locksHaveOwnersAndWaiters(_ guest: Guest) throws {
      let source = ["--memory", guest.memoryPath]
      let locked = try guest.run(
        """
        cat /dev/ttyS0 > /dev/null 2>&1 & echo $! > /tmp/reader; sleep 0.5
        cat /dev/ttyS0 > /dev/null 2>&1 & echo $! >> /tmp/reader; sleep 0.5
        MODE=locks /bin/workload > /dev/null 2>&1 & echo $! >> /tmp/reader; sleep 1
        cat /tmp/reader; cat /proc/locks
        """
      ).text.split(separator: "\n")
      defer { _ = try? guest.run("kill $(cat /tmp/reader); rm /tmp/reader /tmp/locked") }
      let readers = locked.prefix(2).compactMap { Int($0) }
      try #require(readers.count == 2, "\(locked)")
      let all = try grassctl.json(["locks"] + source)
      let mutex = try #require(
        all.first { lock in
          (lock["waiters"] as? [[String: Any]])?.contains { $0["tid"] as? Int == readers[1] } ?? false
        }, "\(all)")
      #expect(mutex["kind"] as? String == "mutex")
      #expect((mutex["owner"] as? [String: Any])?["tid"] as? Int == readers[0])
      // The same by its address, and one that nobody holds by its name.
      let again = try grassctl.json(["locks", mutex["address"] as? String ?? ""] + source)
      #expect((again.first?["owner"] as? [String: Any])?["tid"] as? Int == readers[0])
      let free = try grassctl.json(["locks", "rtnl_mutex"] + source)
      #expect(free.first?["owner"] is NSNull && (free.first?["waiters"] as? [Any])?.isEmpty == true)

      // `1: FLOCK  ADVISORY  WRITE 230 00:17:9 0 EOF`, one that waits as `1: -> FLOCK …`.
      let expected = locked.dropFirst(3).map { line -> String in
        let words = line.split(separator: " ").map(String.init)
        let waits = words[1] == "->"
        let rest = waits ? Array(words.dropFirst(2)) : Array(words.dropFirst())
        let file = rest[4].split(separator: ":")
        let device = file.prefix(2).map { "\(UInt64($0, radix: 16) ?? 0)" }.joined(separator: ":")
        return "\(rest[0]) \(rest[2]) \(rest[3]) \(device) \(file[2]) \(rest[5]) \(rest[6]) \(waits)"
      }
      let printed = all.filter { $0["kind"] as? String == "file" }.map { lock in
        let end = (lock["end"] as? NSNumber)?.int64Value ?? 0
        return
          "\(lock["type"] ?? "") \(lock["mode"] ?? "") \(lock["pid"] ?? "") \(lock["device"] ?? "") "
          + "\(lock["inode"] ?? "") \(lock["start"] ?? "") \(end == .max ? "EOF" : "\(end)") \(lock["waits"] as? Bool ?? false)"
      }
      #expect(printed.sorted() == expected.sorted())
      #expect(expected.count == 4)
      #expect(all.contains { $0["name"] as? String == "/tmp/locked" })
    }
  }
}
