import Foundation
import KernelInfo
import KernelViews
import Lab
import Memory
import Testing

extension GuestTests {
  /// The expert's way in: symbols, types and values of a live guest.
  @Suite(.serialized) struct ExpertTests {
    private let grassctl = BuiltTool(name: "grassctl")

    /// Loads a guest's modules for disks in files and for an Ethernet device, where that was not done yet.
    ///
    /// - Returns: false for a kernel of which there are no modules.
    @discardableResult static func loadDevices(_ guest: Guest) throws -> Bool {
      if guest.options.lacksModules { return false }
      let names = guest.options.programs.map { URL(fileURLWithPath: $0).deletingPathExtension().lastPathComponent }
      try #require(!names.isEmpty, "scripts/setup has fetched no modules for \(guest.options)")
      let done = try guest.run(
        "for name in \(names.joined(separator: " ")); do [ -e /sys/module/$name ] || insmod /modules/$name.ko || exit 1; done"
      )
      try #require(done.status == 0, "\(done.text)")
      return true
    }

    /// Every symbol of /proc/kallsyms, by the sum of all of them: over the serial port they would take a minute.
    @Test(arguments: standardGuests) func symbolsAreThoseOfKallsyms(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let hasModules = try Self.loadDevices(guest)
      // What the BPF loader, ftrace and kprobes add is no part of any table.
      let sum = try guest.run("grep -v '\\[bpf\\]$\\|\\[__builtin__' /proc/kallsyms | LC_ALL=C sort | md5sum").text
      let printed = try grassctl.run(["sym", "--memory", guest.memoryPath])
      #expect(printed.status == 0)
      let lines = printed.output.split(separator: UInt8(ascii: "\n")).sorted { $0.lexicographicallyPrecedes($1) }
      #expect(lines.count > 90_000 && lines.contains { $0.suffix(9).elementsEqual("\t[pktgen]".utf8) } == hasModules)
      #expect(try Self.md5(Array(lines.joined(separator: [UInt8(ascii: "\n")])) + [10]) == sum.prefix(32))
    }

    @Test(arguments: standardGuests) func symbolsBothWays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let line = try guest.run("grep -m1 ' schedule$' /proc/kallsyms").text
      let address = try #require(UInt64(line.prefix(16), radix: 16))
      let source = ["--memory", guest.memoryPath]
      let symbols = try grassctl.json(
        ["sym", "schedule", "0x" + String(address + 5, radix: 16), "schedule+7"] + source)
      #expect(symbols.map { $0["name"] as? String } == ["schedule", "schedule", "schedule"])
      #expect(symbols.map { $0["offset"] as? Int } == [0, 5, 7])
      #expect(symbols[0]["address"] as? String == "0x" + String(address, radix: 16))
      #expect(try grassctl.run(["sym", "no_such_symbol_at_all"] + source).status == 1)
    }

    @Test(arguments: standardGuests) func symbolsOfModulesBothWays(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      guard try Self.loadDevices(guest) else { return }
      let source = ["--memory", guest.memoryPath]
      let line = try guest.run("grep -m1 ' pktgen_thread_worker\t' /proc/kallsyms").text
      let address = "0x" + line.prefix(16)
      let symbols = try grassctl.json(["sym", "pktgen_thread_worker", "pktgen_thread_worker+7", address] + source)
      #expect(symbols.map { $0["name"] as? String } == .init(repeating: "pktgen_thread_worker", count: 3))
      #expect(symbols.map { $0["module"] as? String } == ["pktgen", "pktgen", "pktgen"])
      #expect(symbols.map { $0["offset"] as? Int } == [0, 7, 0])
      #expect(symbols.allSatisfy { $0["address"] as? String == address })
      let text = try grassctl.run(["sym", "pktgen_thread_worker+7"] + source).text
      #expect(text.contains(" t pktgen_thread_worker+0x7/0x") && text.hasSuffix(" [pktgen]\n"), "\(text)")
    }

    /// pahole reads the same types by itself: every member, its declaration, offset and size must be the same.
    @Test(arguments: standardGuests) func typesAreAsPaholeLaysThemOut(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]
      let kernel = try Kernel.open(try MemoryImage.open(guest.memoryPath))
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("grass-btf-\(UUID().uuidString)")
      try Data(kernel.types.bytes).write(to: file)
      defer { try? FileManager.default.removeItem(at: file) }
      for name in [
        "task_struct", "mm_struct", "list_head", "page", "sk_buff", "net_device", "inode", "dentry", "file", "cgroup",
        "maple_node", "vm_area_struct", "module", "super_block", "sock", "tcp_sock", "cred", "workqueue_struct",
        "timer_list", "bpf_prog", "signal_struct", "mount", "kernfs_node",
      ] {
        // Mappings are in a maple tree from 6.1 on.
        if name == "maple_node", !kernel.types.hasStructure(name) { continue }
        let ours = try grassctl.run(["types", name] + source)
        #expect(ours.status == 0)
        let theirs = try Self.tool("/usr/bin/pahole", ["-C", name, file.path])
        let (seen, expected) = (Self.members(ours.text), Self.members(theirs))
        #expect(seen.count > 1 && seen.count == expected.count, "\(name): \(seen.count) members, not \(expected.count)")
        for (line, other) in zip(seen, expected) where line != other {
          Issue.record("\(name): '\(line)', pahole says '\(other)'")
          break
        }
      }
    }

    @Test(arguments: standardGuests) func valuesAndBytes(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let source = ["--memory", guest.memoryPath]
      func value(_ words: String...) throws -> Any? { try grassctl.json(["read"] + words + source).first?["value"] }
      #expect(try value("task_struct", "init_task", ".comm") as? String == "swapper/0")
      #expect(try value("task_struct", "init_task", ".real_parent->comm") as? String == "swapper/0")
      #expect(try value("uts_namespace", "init_uts_ns", ".name.nodename") as? String == "grass-guest")
      // The inode number of the initial namespace is a constant (PROC_UTS_INIT_INO, include/linux/proc_ns.h).
      #expect(try value("uts_namespace", "init_uts_ns", ".ns.inum") as? Int == 0xEFFF_FFFE)
      let banner = try guest.run("cat /proc/version").text
      let dump = try grassctl.run(["read", "linux_banner", "--count", "\(banner.utf8.count)", "--raw"] + source)
      #expect(dump.text == banner)
      // The same bytes by their physical address: the kernel's image starts where phys_base says.
      let physical = try grassctl.run(["read", "0", "--physical", "--count", "32"] + source)
      #expect(physical.status == 0 && physical.text.split(separator: "\n").count == 2)
      let nothing = try grassctl.run(["read", "0xffff000000000000", "--count", "16"] + source)
      #expect(nothing.status == 1 && nothing.text.contains("?? ??"))
    }

    /// The member lines of a definition, without white space; those of pahole's that it calls forced alignment, too.
    private static func members(_ text: String) -> [String] {
      text.split(separator: "\n").compactMap { line in
        guard let comment = line.range(of: "/*", options: .backwards), line.contains(";") else { return nil }
        let numbers = line[comment.upperBound...].split { !$0.isNumber && $0 != ":" }
        // A bit field's bit stands apart from its word's offset, where it has one digit.
        guard numbers.count >= 2 else { return nil }
        var code = line[..<comment.lowerBound].filter { !$0.isWhitespace }
        if let attribute = code.range(of: "__attribute__") { code = String(code[..<attribute.lowerBound]) + ";" }
        // An array without elements is written in both ways.
        return code.replacingOccurrences(of: "[0]", with: "[]") + numbers.joined(separator: ",")
      }
    }

    private static func tool(_ path: String, _ arguments: [String]) throws -> String {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: path)
      process.arguments = arguments
      let output = Pipe()
      process.standardOutput = output
      process.standardError = FileHandle.nullDevice
      try process.run()
      let bytes = output.fileHandleForReading.readDataToEndOfFile()
      process.waitUntilExit()
      return String(decoding: bytes, as: UTF8.self)
    }

    private static func md5(_ bytes: [UInt8]) throws -> String {
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("grass-sum-\(UUID().uuidString)")
      try Data(bytes).write(to: file)
      defer { try? FileManager.default.removeItem(at: file) }
      return try md5(of: file)
    }

    static func md5(of file: URL) throws -> String { String(try tool("/usr/bin/md5sum", [file.path]).prefix(32)) }
  }
}
