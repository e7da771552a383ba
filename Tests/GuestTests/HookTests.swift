import Foundation
import Lab
import Testing

extension GuestTests {
  /// What a live guest's kernel calls, against what the guest was told to probe.
  @Suite(.serialized) struct HookTests {
    private let grassctl = BuiltTool(name: "grassctl")

    @Test(arguments: standardGuests) func whatTheKernelCallsIsWhatTheGuestSays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try tablesOfAnUntouchedKernelLeadIntoIt(guest)
      try programsAreThoseOfTheGuest(guest)
      try probesAreThoseOfTheGuest(guest)
      try handlersAreThoseBehindTheKernelsOwn(guest)
      try codeOfModulesHasItsNames(guest)
    }

    /// Hooks of netfilter that a module adds, a probe in a module, and threads that sleep in one.
    private func codeOfModulesHasItsNames(_ guest: Guest) throws {
      guard try ExpertTests.loadDevices(guest) else { return }
      let source = ["--memory", guest.memoryPath]
      // Else it adds its hooks when somebody looks at its table.
      let done = try guest.run("rmmod iptable_filter && insmod /modules/iptable_filter.ko forward=0")
      try #require(done.status == 0, "\(done.text)")
      let all = try grassctl.json(["netfilter"] + source)
      // Until 5.15 each table had a function of its own.
      let hooks = all.filter {
        ["ipt_do_table+0x0 [ip_tables]", "iptable_filter_hook+0x0 [iptable_filter]"].contains($0["symbol"] as? String)
      }
      #expect(
        Set(hooks.compactMap { $0["name"] as? String }) == ["ipv4 input", "ipv4 forward", "ipv4 output"], "\(all)")
      // NF_IP_PRI_FILTER.
      #expect(hooks.allSatisfy { $0["priority"] as? Int == 0 }, "\(hooks)")
      #expect(
        hooks.allSatisfy { "\($0["symbol"] ?? "")".hasSuffix(" \($0["owner"] as? String ?? "none")") }, "\(hooks)")

      let probed = try guest.run(
        """
        cd /sys/kernel/debug/tracing && echo 'p:grass dummy:dummy_xmit+0' > kprobe_events \
          && echo 1 > events/kprobes/grass/enable && cat /sys/kernel/debug/kprobes/list
        """
      ).text
      let probes = try grassctl.json(["kprobes"] + source)
      _ = try guest.run("cd /sys/kernel/debug/tracing; echo 0 > events/kprobes/grass/enable; echo > kprobe_events")
      // Address, k or r, symbol+offset, module: where a function may be traced, the probe lies behind the tracer's call.
      let words = probed.split(separator: "\n").filter { $0.contains("dummy_xmit") }.first?.split(separator: " ") ?? []
      try #require(words.count >= 4 && words[3] == "dummy", "\(probed)")
      #expect(probes.contains { $0["target_symbol"] as? String == "\(words[2]) [dummy]" }, "\(probes)")

      let thread = try guest.run("grep -lx kpktgend_0 /proc/[0-9]*/comm").text.split(separator: "/")[1]
      func stack() throws -> [String] {
        try guest.run("cat /proc/\(thread)/stack").text.split(separator: "\n").map {
          String($0.dropFirst("[<0>] ".count))
        }
      }
      var found: (expected: [String], frames: [String]) = ([], [])
      // It wakes up ten times a second.
      for _ in 0..<20 where found.frames.isEmpty || found.frames != found.expected {
        let expected = try stack()
        guard let look = try grassctl.json(["stack", "\(thread)"] + source).first, try stack() == expected else {
          continue
        }
        let frames = look["stack"] as? [String] ?? []
        if look["ending"] as? String == "complete" { found = (expected, frames.suffix(expected.count)) }
      }
      #expect(found.frames == found.expected)
      #expect(found.frames.contains { $0.hasPrefix("pktgen_thread_worker+") && $0.hasSuffix(" [pktgen]") }, "\(found)")
    }

    private func tablesOfAnUntouchedKernelLeadIntoIt(_ guest: Guest) throws {
      let source = ["--memory", guest.memoryPath]
      #expect(try grassctl.json(["hooks"] + source).isEmpty)
      let all = try grassctl.json(["hooks", "--all"] + source)
      let calls = all.filter { $0["kind"] as? String == "syscall" }
      // Of arch/x86/entry/syscalls/syscall_64.tbl: 0 is read, 59 is execve.
      #expect(calls.count > 400)
      #expect(calls.first { $0["name"] as? String == "0" }?["symbol"] as? String == "__x64_sys_read+0x0")
      #expect(calls.first { $0["name"] as? String == "59" }?["symbol"] as? String == "__x64_sys_execve+0x0")
      let vectors = all.filter { $0["kind"] as? String == "idt" }
      #expect(vectors.count > 40)
      // Vector 14 is the page fault.
      #expect(vectors.first { $0["name"] as? String == "14" }?["symbol"] as? String == "asm_exc_page_fault+0x0")
      for command in ["bpf", "netfilter"] { _ = try grassctl.json([command] + source) }
    }

    /// Programs and maps against what the guest's kernel says of each by its number.
    private func programsAreThoseOfTheGuest(_ guest: Guest) throws {
      let lines = try guest.run(
        """
        MODE=bpf /bin/workload > /tmp/programs 2>&1 & echo $! > /tmp/loader
        for i in 1 2 3 4 5 6 7 8 9 10; do grep -q grass_map /tmp/programs 2> /dev/null && break; sleep 0.5; done; cat /tmp/programs
        """
      ).text.split(separator: "\n").map(String.init)
      defer { _ = try? guest.run("kill $(cat /tmp/loader)") }
      let printed = try grassctl.json(["bpf", "--memory", guest.memoryPath]).map { item in
        func words(_ keys: String...) -> String { keys.map { "\(item[$0] ?? "")" }.joined(separator: " ") }
        return item["kind"] as? String == "map"
          ? words("kind", "id", "type", "name", "key_size", "value_size", "max_entries")
          : words("kind", "id", "type", "name", "tag", "instructions", "load_time_ns")
      }
      #expect(printed.sorted() == lines.sorted())
      for name in [" grass_filter ", " grass_group ", " grass_map "] {
        #expect(printed.contains { $0.contains(name) }, "\(name) of \(lines)")
      }
    }

    private func probesAreThoseOfTheGuest(_ guest: Guest) throws {
      let source = ["--memory", guest.memoryPath]
      let listed = try guest.run(
        """
        mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
        cd /sys/kernel/debug/tracing && echo 'p:grass vfs_read+0' > kprobe_events
        \(GuestTests.alone("echo 1 > events/kprobes/grass/enable; echo 1 > events/sched/sched_switch/enable"))
        cat /sys/kernel/debug/kprobes/list
        """
      ).text
      try #require(listed.contains("vfs_read"), "\(listed)")
      let probes = try grassctl.json(["kprobes"] + source)
      // Address, k or r, symbol+offset.
      let addresses = Set(
        listed.split(separator: "\n").map { $0.prefix(16) }.filter { UInt64($0, radix: 16) != nil }.map { "0x\($0)" })
      #expect(Set(probes.compactMap { $0["target"] as? String }) == addresses)
      #expect(probes.contains { "\($0["target_symbol"] ?? "")".hasPrefix("vfs_read+") })
      let points = try grassctl.json(["tracepoints"] + source)
      let probe = points.first { $0["name"] as? String == "sched_switch" && $0["owner"] as? String == "kernel" }
      let handler = probe?["symbol"] as? String ?? ""
      #expect(handler.contains("sched_switch"), "\(points)")
      let tracers = try grassctl.json(["ftrace"] + source)
      #expect(tracers.contains { "\($0["symbol"] ?? "")".hasPrefix("kprobe_ftrace_handler+") }, "\(tracers)")

      _ = try guest.run(
        """
        cd /sys/kernel/debug/tracing
        \(GuestTests.alone("echo 0 > events/sched/sched_switch/enable; echo 0 > events/kprobes/grass/enable"))
        echo > kprobe_events
        """)
      #expect(try grassctl.json(["kprobes"] + source).isEmpty)
    }

    /// Two probes at one place, and one of returns: what each calls is shown, not what the kernel puts before it.
    private func handlersAreThoseBehindTheKernelsOwn(_ guest: Guest) throws {
      let listed = try guest.run(
        """
        cd /sys/kernel/debug/tracing && echo 'p:grass/one vfs_read+0' > kprobe_events \
          && echo 'p:grass/two vfs_read+0' >> kprobe_events && echo 'r:grass/back vfs_write' >> kprobe_events
        \(GuestTests.alone("echo 1 > events/grass/enable"))
        cat /sys/kernel/debug/kprobes/list
        """
      ).text
      let probes = try grassctl.json(["kprobes", "--memory", guest.memoryPath])
      _ = try guest.run(
        """
        cd /sys/kernel/debug/tracing
        \(GuestTests.alone("echo 0 > events/grass/enable"))
        echo > kprobe_events
        """)
      try #require(listed.split(separator: "\n").filter { $0.contains("vfs_read") }.count == 2, "\(listed)")
      func handlers(_ function: String) -> [String] {
        probes.filter { "\($0["target_symbol"] ?? "")".hasPrefix("\(function)+") }
          .map { "\($0["name"] ?? "") \($0["symbol"] ?? "")" }
      }
      #expect(handlers("vfs_read") == ["before kprobe_dispatcher+0x0", "before kprobe_dispatcher+0x0"], "\(probes)")
      #expect(handlers("vfs_write") == ["return kretprobe_dispatcher+0x0"], "\(probes)")
    }
  }
}
