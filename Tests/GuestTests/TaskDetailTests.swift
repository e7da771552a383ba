import Foundation
import KernelViews
import Lab
import Memory
import Synchronization
import Testing

extension GuestTests {
  /// What processes are confined to and where they are in the kernel, against the guest's own /proc.
  @Suite(.serialized) struct TaskDetailTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Processes in namespaces and control groups of their own, and namespaces and groups without processes.
    private func guest(_ kind: GuestOptions) throws -> Guest {
      let guest = try SharedGuests.shared.guest(kind)
      let done = try guest.run(
        """
        [ -e /tmp/detailed ] && exit 0
        mkdir -p /tmp/cg /tmp/cg1 /tmp/cgn
        mount -t cgroup2 none /tmp/cg || exit 1
        mount -t cgroup -o freezer none /tmp/cg1 || exit 1
        mount -t cgroup -o none,name=grass none /tmp/cgn || exit 1
        echo "+memory +pids +cpu" > /tmp/cg/cgroup.subtree_control || exit 1
        # A socket keeps the group that it was made in; until 7.0 pages that are charged to it do so, too.
        sh -c 'mkdir /tmp/cg/gone; echo $$ > /tmp/cg/gone/cgroup.procs; dd if=/dev/zero of=/tmp/charged bs=64k count=4
          exec nc -ll -p 4747 -e /bin/true' > /dev/null 2>&1 &
        sleep 1; echo $! > /tmp/cg/cgroup.procs && rmdir /tmp/cg/gone || exit 1
        mkdir -p "/tmp/cg/outer/in ner" /tmp/cg/empty /tmp/cg1/frozen /tmp/cgn/a/b || exit 1
        echo "+memory +pids" > /tmp/cg/outer/cgroup.subtree_control || exit 1
        echo 50003968 > /tmp/cg/outer/memory.max && echo 40960000 > /tmp/cg/outer/memory.high || exit 1
        echo 40 > /tmp/cg/outer/pids.max || exit 1
        # The first limit of CPU time makes the kernel change the code of its scheduler.
        \(GuestTests.alone(#"echo "20000 50000" > /tmp/cg/outer/cpu.max"#)) || exit 1
        sh -c 'echo $$ > "/tmp/cg/outer/in ner/cgroup.procs"; exec sleep 88001' > /dev/null 2>&1 &
        sh -c 'echo $$ > /tmp/cg1/frozen/cgroup.procs; echo $$ > /tmp/cgn/a/b/cgroup.procs; exec sleep 88002' \
          > /dev/null 2>&1 &
        unshare -m -u -i -n -p -f sleep 88003 > /dev/null 2>&1 &
        unshare -U -r unshare -u sleep 88004 > /dev/null 2>&1 &
        unshare -u sleep 88005 > /dev/null 2>&1 &
        sleep 1
        touch /tmp/uts
        for p in /proc/[0-9]*; do grep -q 88005 $p/cmdline 2> /dev/null && mount --bind $p/ns/uts /tmp/uts; done
        for p in /proc/[0-9]*; do
          grep -q 'sleep.88005' $p/cmdline 2> /dev/null && kill ${p#/proc/}
        done
        touch /tmp/detailed; sleep 1
        """)
      #expect(done.status == 0, "\(done.text)")
      return guest
    }

    /// Lines of files of /proc as `grep -H` prints them, by process.
    private static func lines(_ guest: Guest, _ command: String) throws -> [Int: [String]] {
      var result: [Int: [String]] = [:]
      for line in try guest.run(command).text.split(separator: "\n") {
        let parts = line.split(separator: "/", maxSplits: 2)
        guard parts.count == 3, let pid = Int(parts[1]), let colon = parts[2].firstIndex(of: ":") else { continue }
        result[pid, default: []].append(String(parts[2][parts[2].index(after: colon)...]))
      }
      return result
    }

    private static func number(_ text: Any?) -> UInt64? {
      (text as? String).flatMap { UInt64($0.dropFirst(2), radix: 16) }
    }

    /// Compares what is the same before and after the look.
    private static func compare<T: Equatable>(
      _ name: String, _ printed: [Int: T], _ before: [Int: T], _ after: [Int: T], atLeast: Int
    ) {
      var count = 0
      for (pid, value) in before where after[pid] == value {
        count += 1
        #expect(printed[pid] == value, "\(name) of \(pid) is \(String(describing: printed[pid])), not \(value)")
      }
      #expect(count >= atLeast, "\(name): \(count) processes compared")
    }

    /// All in one: what is worked out once for a guest serves all of them.
    @Test(arguments: standardGuests) func detailsAreThoseOfProc(_ kind: GuestOptions) throws {
      let guest = try guest(kind)
      try privilegesNamespacesAndGroups(guest)
      try forestHasParentsFirst(guest)
      try stacksAreThoseOfProc(guest)
      try namespacesAreThoseOfProc(guest)
      try groupsAreThoseOfTheirFiles(guest)
      try memoryThatLies(guest)
    }

    private func privilegesNamespacesAndGroups(_ guest: Guest) throws {
      struct Oracle {
        var status, groups: [Int: [String]]
        var namespaces: [Int: [String: Int]] = [:]
        var environments: [Int: [UInt8]] = [:]

        init(_ guest: Guest) throws {
          status = try TaskDetailTests.lines(
            guest, "grep -HE '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/[0-9]*/status"
          ).mapValues { $0.map { $0.replacingOccurrences(of: "\t", with: "") } }
          groups = try TaskDetailTests.lines(guest, "grep -H '' /proc/[0-9]*/cgroup")
          var pid = 0
          for line in try guest.run("ls -l /proc/[0-9]*/ns 2> /dev/null").text.split(separator: "\n") {
            if line.hasPrefix("/proc/") { pid = Int(line.split(separator: "/")[1]) ?? 0 }
            guard let arrow = line.range(of: " -> "), let name = line[..<arrow.lowerBound].split(separator: " ").last,
              let number = Int(line[arrow.upperBound...].filter(\.isNumber))
            else { continue }
            if !name.hasSuffix("_for_children") { namespaces[pid, default: [:]][String(name)] = number }
          }
          let output = try guest.run("for p in /proc/[0-9]*; do echo \"@@$p\"; cat $p/environ; done 2> /dev/null").bytes
          let text = String(decoding: output, as: UTF8.self)
          for part in text.components(separatedBy: "@@/proc/").dropFirst() {
            guard let end = part.firstIndex(of: "\n"), let pid = Int(part[..<end]) else { continue }
            environments[pid] = Array(part[part.index(after: end)...].utf8)
          }
        }
      }
      let before = try Oracle(guest)
      let source = ["--memory", guest.memoryPath]
      let printed = try grassctl.json(["ps", "--environ", "--namespaces", "--cgroup", "--capabilities"] + source)
      let after = try Oracle(guest)
      let byPID = Dictionary(printed.map { ($0["pid"] as? Int ?? 0, $0) }, uniquingKeysWith: { first, _ in first })

      let status = byPID.mapValues { task in
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"].map {
          "\($0):\(task[$0] ?? "")"
        }
      }
      Self.compare("status", status, before.status, after.status, atLeast: 80)
      #expect(status.values.contains { $0.contains("Seccomp:2") && $0.contains("NoNewPrivs:1") })
      #expect(Set(status.values.map { $0[3] }).count > 1)
      Self.compare(
        "cgroup", byPID.mapValues { $0["cgroup"] as? [String] ?? [] }, before.groups, after.groups, atLeast: 80)
      #expect(before.groups.values.contains { $0.contains("0::/outer/in ner") })
      #expect(before.groups.values.contains { $0.contains { $0.hasSuffix(":freezer:/frozen") } })
      Self.compare(
        "ns", byPID.mapValues { $0["ns"] as? [String: Int] ?? [:] }, before.namespaces, after.namespaces, atLeast: 80)
      for name in ["mnt", "pid", "net", "uts", "ipc", "user"] {
        #expect(Set(before.namespaces.values.compactMap { $0[name] }).count > 1, "\(name)")
      }
      let environments = byPID.mapValues { task -> [UInt8] in
        (task["environ"] as? [String] ?? []).flatMap { $0.documentedBytes + [0] }
      }
      Self.compare("environ", environments, before.environments, after.environments, atLeast: 80)
      #expect(environments.values.filter { !$0.isEmpty }.count > 20)
      // Asked for nothing more, ps reads and prints nothing more.
      let plain = try #require(try grassctl.json(["ps", "--pid", "1"] + source).first)
      #expect(plain["ns"] == nil && plain["environ"] == nil && plain["CapEff"] == nil && plain["depth"] == nil)
    }

    private func forestHasParentsFirst(_ guest: Guest) throws {
      let printed = try grassctl.json(["ps", "--forest", "--memory", guest.memoryPath])
      var depths: [Int: Int] = [:]
      for task in printed {
        let (pid, parent) = (try #require(task["pid"] as? Int), task["ppid"] as? Int ?? 0)
        #expect(task["depth"] as? Int == (depths[parent].map { $0 + 1 } ?? 0), "\(pid) below \(parent)")
        depths[pid] = task["depth"] as? Int
      }
      #expect(depths.count == printed.count && depths.count > 80 && (depths.values.max() ?? 0) >= 2)
      let text = try grassctl.run(["ps", "--forest", "--memory", guest.memoryPath]).text
      #expect(text.contains(" \\_ sleeper --number 3"))
    }

    private func stacksAreThoseOfProc(_ guest: Guest) throws {
      func look() throws -> [String: [String]] {
        var stacks: [String: [String]] = [:]
        for line in try guest.run("grep -H '' /proc/[0-9]*/task/[0-9]*/stack 2> /dev/null").text.split(separator: "\n")
        {
          let parts = line.split(separator: "/")
          guard parts.count >= 5, let frame = line.range(of: "[<0>] ") else { continue }
          stacks[String(parts[3]), default: []].append(String(line[frame.upperBound...]))
        }
        return stacks
      }
      let ends = try grassctl.json(["sym", "__sched_text_start", "__sched_text_end", "--memory", guest.memoryPath])
      let scheduling = ends.compactMap { Self.number($0["address"]) }
      var compared = 0
      var wrong: [String: String]?
      // A thread may run and come to rest elsewhere between two looks; not three times over.
      for _ in 0..<3 where wrong?.isEmpty != true {
        let before = try look()
        let stacks = try grassctl.json(["stack", "--all", "--memory", guest.memoryPath])
        let after = try look()
        compared = 0
        var now: [String: String] = [:]
        for stack in stacks {
          let pid = "\(stack["pid"] ?? "")"
          let frames = stack["stack"] as? [String] ?? []
          #expect(stack["ending"] as? String != "broken", "\(pid): \(stack["error"] ?? "")")
          // The agent waits for the guest's own look, and else for the next command; the look makes RCU work, too.
          guard let expected = before[pid], expected == after[pid], stack["ending"] as? String == "complete",
            let name = stack["comm"] as? String, name != "agent", !name.hasPrefix("rcu_")
          else { continue }
          compared += 1
          // The kernel leaves the scheduler's own functions out.
          let above = (stack["addresses"] as? [Any] ?? []).dropLast(expected.count).compactMap(Self.number)
          let isSame =
            Array(frames.suffix(expected.count)) == expected && !above.isEmpty
            && above.allSatisfy { $0 > scheduling[0] && $0 <= scheduling[1] }
          if !isSame { now[pid] = "\(stack["comm"] ?? ""): \(frames), the guest says \(expected)" }
        }
        #expect(stacks.filter { $0["ending"] as? String == "ended" }.count >= 1)
        wrong = wrong?.filter { now[$0.key] != nil } ?? now
      }
      #expect(wrong?.isEmpty == true, "\(wrong ?? [:])")
      #expect(compared > 100)
    }

    private func namespacesAreThoseOfProc(_ guest: Guest) throws {
      struct Seen: Equatable {
        var kind: String
        var processes: Set<Int> = []
      }
      func look() throws -> [Int: Seen] {
        var seen: [Int: Seen] = [:]
        var pid = 0
        for line in try guest.run("ls -l /proc/[0-9]*/ns 2> /dev/null").text.split(separator: "\n") {
          if line.hasPrefix("/proc/") { pid = Int(line.split(separator: "/")[1]) ?? 0 }
          guard let arrow = line.range(of: " -> "), let name = line[..<arrow.lowerBound].split(separator: " ").last,
            let number = Int(line[arrow.upperBound...].filter(\.isNumber)), !name.hasSuffix("_for_children")
          else { continue }
          seen[number, default: Seen(kind: String(name))].processes.insert(pid)
        }
        return seen
      }
      let before = try look()
      let printed = try grassctl.json(["lsns", "--memory", guest.memoryPath])
      let after = try look()
      let byNumber = Dictionary(printed.map { ($0["ns"] as? Int ?? 0, $0) }, uniquingKeysWith: { first, _ in first })
      #expect(byNumber.count == printed.count)
      for (number, seen) in before {
        let namespace = try #require(byNumber[number], "\(seen.kind):[\(number)] is missing")
        #expect(namespace["type"] as? String == seen.kind)
        guard let later = after[number] else { continue }
        // The guest looks by processes that come and go.
        let stable = seen.processes.intersection(later.processes)
        #expect((stable.count...stable.count + 6).contains(namespace["nprocs"] as? Int ?? 0), "\(number)")
        #expect(namespace["pid"] as? Int == stable.min(), "\(number)")
      }
      #expect(before.count >= 15)
      // What only a mount keeps, and whom it belongs to.
      let mounted = try #require(Int(try guest.run("stat -L -c %i /tmp/uts").text.filter(\.isNumber)))
      let alone = try #require(byNumber[mounted])
      #expect(alone["type"] as? String == "uts" && alone["nprocs"] as? Int == 0 && alone["pid"] is NSNull)
      let initial = try #require(printed.first { $0["type"] as? String == "user" && $0["pid"] as? Int == 1 })
      #expect(alone["owner"] as? Int == initial["ns"] as? Int && initial["owner"] is NSNull)
      let confined = try #require(
        printed.first { $0["type"] as? String == "uts" && ($0["command"] as? [String])?.last == "88004" })
      let owner = try #require(byNumber[confined["owner"] as? Int ?? 0])
      #expect(owner["type"] as? String == "user" && owner["owner"] as? Int == initial["ns"] as? Int)
      #expect(try grassctl.json(["lsns", "--type", "uts", "--memory", guest.memoryPath]).count >= 4)
    }

    private func groupsAreThoseOfTheirFiles(_ guest: Guest) throws {
      let files = [
        "cgroup.controllers", "cgroup.subtree_control", "memory.max", "memory.high", "memory.current", "pids.max",
        "pids.current", "cpu.max",
      ]
      func look() throws -> [String: [String: String]] {
        let text = try guest.run(
          """
          for root in /tmp/cg /tmp/cg1 /tmp/cgn; do find $root -type d | while read -r d; do
            echo "@@${d#/tmp/}"; echo "id=$(stat -c %i "$d")"; echo "procs=$(wc -l < "$d/cgroup.procs")"
            for f in \(files.joined(separator: " ")); do [ -e "$d/$f" ] && echo "$f=$(cat "$d/$f")"; done
          done; done
          """
        ).text
        var groups: [String: [String: String]] = [:]
        for part in text.components(separatedBy: "@@").dropFirst() {
          let lines = part.split(separator: "\n")
          var values: [String: String] = [:]
          for line in lines.dropFirst() {
            let words = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if words.count == 2 { values[String(words[0])] = String(words[1]) }
          }
          groups[String(lines[0])] = values
        }
        return groups
      }
      let before = try look()
      let printed = try grassctl.json(["cgroups", "--memory", guest.memoryPath])
      let after = try look()
      #expect(before.count == 9)
      let hierarchies = try guest.run("cat /proc/self/cgroup").text.split(separator: "\n")
      func hierarchy(_ part: String) -> Int? {
        hierarchies.first { $0.contains(part) }.flatMap { Int($0.prefix { $0 != ":" }) }
      }
      let roots = ["cg": 0, "cg1": hierarchy("freezer"), "cgn": hierarchy("name=grass")]
      for (name, expected) in before {
        let root = String(name.prefix { $0 != "/" })
        let path = name.count == root.count ? "/" : String(name.dropFirst(root.count))
        let number = try #require(roots[root] ?? nil)
        let group = try #require(
          printed.first { $0["path"] as? String == path && $0["hierarchy"] as? Int == number }, "\(name)")
        #expect(group["id"].map { "\($0)" } == expected["id"], "\(name)")
        let processes = [expected["procs"], after[name]?["procs"]].compactMap { $0.flatMap { Int($0) } }
        let seen = group["procs"] as? Int ?? -1
        #expect((processes.min() ?? 0) - 6 <= seen && seen <= (processes.max() ?? 0) + 6, "\(name): \(seen) processes")
        if path != "/" { #expect(seen == processes[0], "\(name)") }
        for file in files {
          let value = (group[file] as? [String])?.joined(separator: " ") ?? group[file].map { "\($0)" }
          // Version 1 has files of other names.
          guard number == 0 else { continue }
          if file.hasSuffix(".current"), path != "/" {
            let range = [expected[file], after[name]?[file]].compactMap { $0.flatMap { Int($0) } }
            let current = Int(value ?? "") ?? -1
            #expect(range.isEmpty == (value == nil), "\(name) \(file)")
            if let low = range.min(), let high = range.max() {
              #expect((low...high).contains(current), "\(name) \(file)")
            }
          } else {
            #expect(value == expected[file], "\(name) \(file)")
          }
        }
      }
      #expect(printed.contains { $0["path"] as? String == "/gone" && $0["deleted"] as? Bool == true })
      let controllers = try grassctl.json(["cgroups", "--controllers", "--memory", guest.memoryPath]).map { line in
        ["subsys_name", "hierarchy", "num_cgroups", "enabled"].map { "\(line[$0] ?? "")" }.joined(separator: "\t")
      }
      let listed = try guest.run("tail -n +2 /proc/cgroups").text.split(separator: "\n").map(String.init)
      // From 6.15 on it leaves out those that version 1 never had.
      let new = Set(try guest.run("cat /tmp/cg/cgroup.controllers").text.split(whereSeparator: \.isWhitespace))
      let named = Set(listed.compactMap { $0.split(separator: "\t").first.map { $0 == "blkio" ? "io" : $0 } })
      let others = controllers.filter { !listed.contains($0) }
      #expect(controllers.filter(listed.contains) == listed)
      #expect(Set(others.compactMap { $0.split(separator: "\t").first }) == new.subtracting(named), "\(others)")
    }

    /// Memory in which words are others than they are, at random: nothing traps, and everything comes to an end.
    private func memoryThatLies(_ guest: Guest) throws {
      let memory = LyingMemory(try #require(try MemoryImage.open(guest.memoryPath).first))
      let kernel = try Kernel(memory: memory)
      let tasks = try kernel.tasks(TaskQuery(includesThreads: true))
      #expect(tasks.tasks.count > 100)
      // Everything that is worked out once is worked out from the truth.
      _ = try kernel.details(of: tasks.tasks, [.environment, .namespaces, .controlGroups, .privileges])
      _ = try (kernel.stacks(of: tasks.tasks), kernel.namespaces(), kernel.controlGroups())
      var faults = 0
      for round in 0..<12 {
        memory.lies(from: UInt64(round), inverseRate: [100, 1000, 10_000][round % 3])
        let details = try? kernel.details(
          of: tasks.tasks, [.environment, .namespaces, .controlGroups, .privileges], environmentBudget: 1 << 20)
        let stacks = try? kernel.stacks(of: tasks.tasks)
        let (namespaces, groups) = (try? kernel.namespaces(), try? kernel.controlGroups())
        faults += (details?.faults.count ?? 1) + (namespaces?.faults.count ?? 1) + (groups?.faults.count ?? 1)
        faults += (stacks?.stacks ?? []).filter { if case .broken = $0.ending { true } else { false } }.count
        #expect((stacks?.stacks.allSatisfy { $0.frames.count <= 512 }) ?? true)
      }
      #expect(faults > 100)
    }
  }
}

/// The memory of a guest, in which words are changed on the way once it has been told to.
private final class LyingMemory: PhysicalMemory {
  private let base: any PhysicalMemory
  private let state = Mutex<(random: UInt64, inverseRate: UInt64, pointer: UInt64)>((1, 0, 0))

  init(_ base: any PhysicalMemory) { self.base = base }

  var segments: [MemorySegment] { base.segments }

  /// From now on one word of so many is another: nothing, all bits, a small number, noise, or a pointer met before.
  func lies(from seed: UInt64, inverseRate: UInt64) {
    state.withLock { $0 = (seed &* 0x9e37_79b9_7f4a_7c15 | 1, inverseRate, 0) }
  }

  func read(_ batch: inout ReadBatch<PhysicalAddress>) {
    state.withLock { state in
      guard state.inverseRate > 0 else { return base.read(&batch) }
      batch.fill { (address, target) throws(MemoryFault) in
        var bytes = try base.read(address, count: target.count)
        for start in stride(from: 0, to: bytes.count & ~7, by: 8) {
          let word = bytes[start..<start + 8].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
          state.random ^= state.random << 13
          state.random ^= state.random >> 7
          state.random ^= state.random << 17
          if state.random % state.inverseRate == 0 {
            let lies = [0, .max, state.random >> 60, state.random, state.pointer]
            let lie = lies[Int((state.random >> 32) % 5)]
            for byte in 0..<8 { bytes[start + byte] = UInt8(truncatingIfNeeded: lie >> UInt64(8 * byte)) }
          }
          if word >> 47 == 0x1_ffff { state.pointer = word }
        }
        target.copyBytes(from: bytes)
      }
    }
  }
}
