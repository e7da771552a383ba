import Foundation
import Lab
import Testing

extension GuestTests {
  /// The guest's /proc, mounted here, against the guest's own.
  ///
  /// The guest says what its files hold, is stopped, and then looked at from outside: what differs has a reason, which
  /// ``ShadowComparison`` has.
  @Suite(.serialized) struct ShadowTests {
    /// Guests that no other suite works in: what those leave behind (a file system with options of its own, symbols of BPF programs)
    /// has no exact likeness here yet.
    static let guests = standardGuests.map { kind in
      var kind = kind
      kind.memory = 768
      return kind
    }

    @Test(arguments: guests)
    func filesAreTheKernelsOwn(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      try Self.makeThingsToSee(guest)
      let comparison = try ShadowComparison(guest)
      try guest.pause()
      try MountedShadow.with(["--memory", guest.memoryPath]) { shadow in
        let moved = try comparison.compareFiles(shadow.path)
        try comparison.compareLinks(shadow.path)
        try comparison.compareSystem(shadow.path)
        try comparison.compareSettings(shadow.path)
        try Self.checkCore(shadow.path)
        try comparison.compareTools(shadow, without: moved)
        try Self.checkBorders(shadow.path)
      }
    }

    /// Sockets of all kinds and in the states in which TCP stays for a while, locks and who waits for them, addresses, routes,
    /// neighbours, and objects of System V.
    private static func makeThingsToSee(_ guest: Guest) throws {
      let said = try guest.run(
        """
        ip link set lo up
        [ -e /sys/module/dummy ] || insmod /modules/dummy.ko
        [ -e /sys/module/loop ] || insmod /modules/loop.ko
        # Nobody is asked for routers, which would go on for seconds.
        echo 0 > /proc/sys/net/ipv6/conf/dummy0/router_solicitations
        ip addr add 10.9.0.1/24 dev dummy0; ip link set dummy0 up; ip link set dummy0 multicast on
        ip route add 10.77.0.0/16 via 10.9.0.9 metric 5; ip route add unreachable 10.88.0.0/24
        arp -s 10.9.0.7 02:00:00:00:00:07
        MODE=sockets workload > /dev/null 2>&1 &
        MODE=locks workload > /dev/null 2>&1 &
        MODE=shared workload > /dev/null 2>&1 &
        sleep 3
        grep -c : /proc/net/tcp; grep -c : /proc/locks; grep -c 10.9.0.7 /proc/net/arp; grep -c dummy0 /proc/net/route
        """
      ).text.split(separator: "\n").suffix(4).compactMap { Int($0) }
      try #require(said.count == 4 && said[0] > 8 && said[1] >= 2 && said[2] == 1 && said[3] >= 2, "\(said)")
    }

    /// An ELF core, whose first run of memory is the same bytes as the memory's own.
    private static func checkCore(_ path: String) throws {
      let core = try FileHandle(forReadingFrom: URL(fileURLWithPath: path + "/vmcore"))
      let head = [UInt8](try #require(try core.read(upToCount: 4096)))
      #expect(head.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]))
      func word(_ place: Int) -> UInt64 { (0..<8).reduce(0) { $0 | UInt64(head[place + $1]) << UInt64($1 * 8) } }
      // The first program header has the notes, the second one memory from address 0 on.
      #expect(String(decoding: head, as: UTF8.self).contains("VMCOREINFO"))
      let (offset, physical, size) = (word(64 + 56 + 8), word(64 + 56 + 24), word(64 + 56 + 32))
      #expect(physical == 0 && size > 0)
      let memory = try FileHandle(forReadingFrom: URL(fileURLWithPath: path + "/mem"))
      for place in [0, 0x9_f000, size / 2 & ~4095, size - 4096] as [UInt64] {
        try core.seek(toOffset: offset + place)
        try memory.seek(toOffset: place)
        #expect(try core.read(upToCount: 4096) == memory.read(upToCount: 4096), "\(place)")
      }
      let length = try core.seekToEnd()
      #expect(length >= 512 << 20)
      let drgn = KernelStore().directory.appendingPathComponent("../drgn==0.3.0").standardizedFileURL.path
      _ = try runProgram(
        "python3", ["-c", script, path + "/vmcore", path + "/mem"], environment: ["PYTHONPATH": drgn])
    }

    /// drgn, which finds pages by their physical addresses and, with what the notes say, through the page tables.
    private static let script = """
      import drgn, sys
      program = drgn.Program()
      program.set_core_dump(sys.argv[1])
      note = dict(line.split("=", 1) for line in program["VMCOREINFO"].string_().decode().splitlines() if "=" in line)
      names = program.read(int(note["SYMBOL(init_uts_ns)"], 16), 512)
      assert note["OSRELEASE"].encode() in names
      with open(sys.argv[2], "rb") as memory:
          for frame in range(1, 512 * 256, 997):
              memory.seek(frame * 4096)
              assert program.read(frame * 4096, 4096, physical=True) == memory.read(4096), f"frame {frame} differs"
      """

    /// Who can no longer be asked is an error in every file, and can be unmounted.
    @Test func hostThatIsGoneIsAnError() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.bury() }
      try MountedShadow.with(["--host", daemon.urls[1], "--timeout", "2"]) { shadow in
        let first = try shadow.run("ps -p 1 -o comm=")
        #expect(first == "init\n")
        daemon.signal(SIGKILL)
        // What was kept for a moment, a second at most, is gone.
        usleep(1_200_000)
        for file in ["meminfo", "1/status", "modules", "stat"] {
          #expect(open("\(shadow.path)/proc/\(file)", O_RDONLY) == -1 && errno == EIO, "\(file)")
        }
        #expect(opendir(shadow.path + "/proc") == nil && errno == EIO)
      }
    }

    /// A host that is dead from the start, one that dies, and an image: each by itself.
    @Test func hostsAreMountedSideBySide() throws {
      let guest = try SharedGuests.shared.guest(standardGuests[0])
      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.bury() }
      let source = ["--host", daemon.urls[1], "--host", "tcp://127.0.0.1:9", "--memory", guest.memoryPath]
      try MountedShadow.with(source + ["--timeout", "2"]) { shadow in
        let live = daemon.urls[1].replacing("tcp://", with: "")
        let names = try FileManager.default.contentsOfDirectory(atPath: shadow.path).sorted()
        let image = try #require(names.first { $0 != live && $0 != "127.0.0.1:9" })
        #expect(names.count == 3 && names.contains(live) && names.contains("127.0.0.1:9"), "\(names)")
        func comm(_ name: String) -> String? {
          try? String(contentsOfFile: "\(shadow.path)/\(name)/proc/1/comm", encoding: .utf8)
        }
        #expect(comm(live) == "init\n" && comm(image) == "init\n")
        #expect(opendir(shadow.path + "/127.0.0.1:9") == nil && errno == EIO)
        #expect(open(shadow.path + "/127.0.0.1:9/proc/meminfo", O_RDONLY) == -1 && errno == EIO)
        daemon.signal(SIGKILL)
        usleep(1_200_000)
        #expect(open("\(shadow.path)/\(live)/proc/meminfo", O_RDONLY) == -1 && errno == EIO)
        #expect(comm(image) == "init\n")
      }
    }

    /// What is not there, what cannot be written, and views and memory beside /proc.
    private static func checkBorders(_ path: String) throws {
      #expect(open(path + "/proc/nothing", O_RDONLY) == -1 && errno == ENOENT)
      #expect(open(path + "/proc/0", O_RDONLY) == -1 && errno == ENOENT)
      #expect(open(path + "/proc/01", O_RDONLY) == -1 && errno == ENOENT)
      #expect(open(path + "/proc/1/comm", O_WRONLY) == -1 && errno == EROFS)
      // The memory of a PC begins with the interrupt vectors of its BIOS, and is as long as the last of its RAM.
      let memory = try FileHandle(forReadingFrom: URL(fileURLWithPath: path + "/mem"))
      #expect(try memory.read(upToCount: 4096)?.count == 4096)
      #expect(try memory.seekToEnd() >= 512 << 20)
      let views = try FileManager.default.contentsOfDirectory(atPath: path + "/views")
      #expect(views.contains("ps.txt") && views.contains("ps.json"))
      let json = try Data(contentsOf: URL(fileURLWithPath: path + "/views/lsmod.json"))
      #expect(try JSONSerialization.jsonObject(with: json) is [[String: Any]])
      // Two reads of one open see one moment.
      let stat = try FileHandle(forReadingFrom: URL(fileURLWithPath: path + "/proc/stat"))
      let first = try #require(try stat.read(upToCount: 10))
      try stat.seek(toOffset: 0)
      #expect(try stat.read(upToCount: 10) == first)
    }
  }
}

/// A shadow that is mounted for one test.
struct MountedShadow {
  let path: String

  /// Mounts, runs `body`, ends grassctl, and makes sure that nothing is left.
  static func with(_ source: [String], _ body: (MountedShadow) throws -> Void) throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("grass-shadow-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    let process = Process()
    // One of a test that crashed unmounts and ends with it.
    process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
    process.arguments =
      ["--pdeathsig", "TERM", "--", BuiltTool.directory.appendingPathComponent("grassctl").path, "mount"] + source
      + [directory.path]
    let output = Pipe()
    process.standardOutput = output
    process.standardInput = FileHandle.nullDevice
    try Spawner.shared.start(process)
    defer {
      process.terminate()
      process.waitUntilExit()
      #expect(process.terminationStatus == 0)
      // A directory that something is mounted on cannot be removed.
      #expect(rmdir(directory.path) == 0)
    }
    // Its end, where it does not come up, ends this read too.
    let line = output.fileHandleForReading.availableData
    try #require(String(decoding: line, as: UTF8.self) == "ready\n")
    try body(MountedShadow(path: directory.path))
  }

  /// What a program prints that sees the shadow in the place of its own /proc.
  func run(_ command: String) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
    process.arguments = ["-m", "sh", "-c", "mount --bind \(path)/proc /proc && \(command)"]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(command): \(String(decoding: bytes, as: UTF8.self).prefix(500))")
    return String(decoding: bytes, as: UTF8.self)
  }
}

extension BuiltTool {
  /// What another program prints.
  fileprivate static func output(of program: String, _ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: UTF8.self)
  }

  /// What another program prints of a file.
  fileprivate static func output(of program: String, input path: String) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// What a guest said of its /proc.
struct ShadowComparison {
  /// Files of the guest by their paths below /proc, and where its links lead.
  private var files: [String: [UInt8]] = [:]
  private var links: [String: String] = [:]
  private var printed: [String: String] = [:]
  /// Processes that read for the test, or began since.
  private var readers: Set<Int> = []

  /// Files of each process.
  private static let ofProcesses =
    [
      "stat", "status", "statm", "comm", "cmdline", "limits", "maps", "cgroup", "oom_score_adj", "io", "environ",
      "wchan",
      "task/*/stat", "task/*/status", "task/*/children", "attr/current", "auxv", "autogroup", "coredump_filter",
      "cpuset",
      "fdinfo/*", "gid_map", "loginuid", "mountstats", "oom_adj", "oom_score", "patch_state", "personality",
      "projid_map",
      "schedstat", "sessionid", "setgroups", "stack", "syscall", "timerslack_ns", "uid_map", "arch_status",
    ] + ofMemory
  /// Those of each page of a process: whoever reads them has pages in common with all programs of the guest.
  private static let ofMemory = ["smaps", "smaps_rollup", "numa_maps"]
  /// Files that stand still with the guest.
  private static let fixed = [
    "cgroups", "devices", "execdomains", "iomem", "ioports", "locks", "misc", "tty/drivers", "net/arp", "net/dev_mcast",
    "net/icmp", "net/icmp6", "net/if_inet6", "net/ipv6_route", "net/netlink", "net/psched", "net/raw", "net/raw6",
    "net/anycast6", "net/connector", "net/fib_trie", "net/ip6_flowlabel", "net/ip6_mr_cache", "net/ip6_mr_vif",
    "net/ip_mr_cache", "net/ip_mr_vif", "net/mcfilter", "net/mcfilter6", "net/ptype", "net/rt6_stats", "net/rt_cache",
    "net/wireless", "net/xfrm_stat",
    "net/route", "net/sockstat6", "net/udplite", "net/udplite6",
    "version", "cmdline", "modules", "swaps", "filesystems", "cpuinfo", "sys/kernel/hostname",
    "sys/kernel/domainname", "sys/kernel/osrelease", "sys/kernel/version", "sys/kernel/ostype", "sys/kernel/pid_max",
    "sys/kernel/threads-max", "sys/kernel/random/boot_id", "net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/unix",
    "partitions", "diskstats", "bus/input/devices", "bus/input/handlers", "bus/pci/devices", "consoles", "fb",
    "key-users",
    "keys", "sysvipc/msg", "sysvipc/sem", "sysvipc/shm",
  ]
  /// Files of counters that the reading itself moves: its processes, its pages, its interrupts, the time that it takes; and those of
  /// the network, where one socket goes on trying to connect.
  private static let moving = [
    "meminfo", "vmstat", "slabinfo", "interrupts", "softirqs", "stat", "loadavg", "uptime", "buddyinfo", "schedstat",
    "zoneinfo", "pressure/cpu", "pressure/io", "pressure/memory", "net/dev", "net/netstat", "net/packet", "net/snmp",
    "net/snmp6",
    "net/sockstat", "net/softnet_stat", "net/dev_snmp6/lo", "net/dev_snmp6/dummy0", "net/fib_triestat", "net/igmp",
    "net/igmp6", "net/protocols", "net/stat/arp_cache", "net/stat/ndisc_cache", "net/stat/rt_cache",
  ]
  /// Settings that are counters: of open files, of inodes and names kept in memory, of process ids.
  private static let movingSettings = [
    "sys/fs/dentry-state", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state", "sys/kernel/ns_last_pid",
  ]
  /// Settings that cannot be compared: one that is another at each reading, and one that is an error in the guest, too, until
  /// somebody sets it.
  private static let incomparable = ["uuid", "stable_secret"]
  /// Files of /sys, and their directories.
  private static let ofSystem = [
    "devices/system/cpu/possible", "devices/system/cpu/present", "devices/system/cpu/online",
    "devices/system/cpu/offline", "devices/system/cpu/kernel_max", "devices/system/cpu/cpu1/online",
    "devices/system/cpu/cpu*/topology/*_id", "devices/system/cpu/cpu*/topology/*_siblings*",
    "devices/system/cpu/cpu*/topology/core_cpus*", "devices/system/node/online", "devices/system/node/possible",
    "devices/system/node/has_cpu", "devices/system/node/node*/cpumap", "devices/system/node/node*/cpulist",
    "class/net/*/address", "class/net/*/broadcast", "class/net/*/carrier", "class/net/*/carrier_changes",
    "class/net/*/dev_id", "class/net/*/flags", "class/net/*/ifindex", "class/net/*/link_mode", "class/net/*/mtu",
    "class/net/*/operstate", "class/net/*/tx_queue_len", "class/net/*/type", "class/net/dummy0/statistics/*",
    "block/*/dev", "block/*/size", "block/*/stat", "block/*/removable", "block/*/ro", "block/*/hidden",
    "block/*/queue/rotational", "block/*/queue/add_random", "block/*/queue/write_cache",
    "block/*/queue/*_size", "block/*/queue/discard_*", "block/*/queue/write_zeroes_max_bytes",
    "block/*/queue/max_*sectors_kb", "block/*/queue/max_segment*", "block/*/queue/nr_requests",
    "block/*/queue/scheduler", "devices/system/cpu/cpu*/cache/index*/[clnpstw]*",
    "devices/system/cpu/cpu*/cache/index*/id",
    "devices/system/node/node*/distance", "devices/system/node/node*/meminfo", "devices/system/node/node*/numastat",
    "module/dummy/refcnt",
    "module/dummy/initstate", "module/dummy/coresize", "module/dummy/taint", "kernel/kexec_loaded",
    "bus/pci/devices/*/vendor", "bus/pci/devices/*/device", "bus/pci/devices/*/class", "bus/pci/devices/*/resource",
    "bus/pci/devices/*/revision", "bus/pci/devices/*/irq", "bus/pci/devices/*/subsystem_*",
    "devices/system/memory/*_b*", "devices/system/memory/memory*/online",
    "devices/system/memory/memory*/phys_*", "devices/system/memory/memory*/removable",
    "devices/system/memory/memory*/state", "devices/system/memory/memory*/valid_zones",
    "devices/system/cpu/vulnerabilities/*",
    "kernel/uevent_seqnum", "kernel/fscaps", "kernel/profiling", "kernel/mm/transparent_hugepage/enabled",
  ]
  private var system: [String: [UInt8]] = [:]
  /// The programs that the guest has, too, with nothing in what they print that the reading moves.
  private static let tools = [
    "busybox ps -o pid,ppid,pgid,vsz,rss,stat,comm,args", "busybox lsmod", "busybox pidof workload",
  ]

  init(_ guest: Guest) throws {
    let processes = Self.ofProcesses.map { "[0-9]*/\($0)" }.joined(separator: " ")
    for tool in Self.tools { printed[tool] = try guest.run(tool).text }
    let listing = try guest.run(
      "cd /proc; ls -l [0-9]*/exe [0-9]*/cwd [0-9]*/root 2>/dev/null; ls -l [0-9]*/fd [0-9]*/ns [0-9]*/map_files 2>/dev/null"
    )
    take(links: listing.text)
    let output = try guest.run(
      "cd /proc; head -v -c 100000000 \(processes) 1/mounts 1/mountinfo "
        + "\((Self.fixed + Self.moving).joined(separator: " ")) 2>/dev/null; echo; echo '==> end <=='")
    files = Self.files(output.bytes)
    let settings = try guest.run(
      "cd /proc; head -v -c 100000000 $(find sys -type f -perm -400 "
        + "\(Self.incomparable.map { "! -name \($0)" }.joined(separator: " "))) 2>/dev/null; echo; echo '==> end <=='")
    files.merge(Self.files(settings.bytes)) { first, _ in first }
    printed["find"] = try guest.run("cd /proc; find sys -type f | sort").text
    // As many records as there surely are: the end would be waited at.
    printed["kmsg"] = try guest.run("head -n 200 /dev/kmsg").text
    let system = try guest.run(
      "cd /sys; head -v -c 100000000 \(Self.ofSystem.joined(separator: " ")) 2>/dev/null; echo; echo '==> end <=='")
    self.system = Self.files(system.bytes)
    // Nine megabytes are much for a guest's serial port.
    printed["kallsyms"] = try guest.run("sha256sum < /proc/kallsyms").text
    try #require(files.count > 800)
    findReaders()
  }

  /// The pieces of what head(1) prints of many files.
  private static func files(_ bytes: [UInt8]) -> [String: [UInt8]] {
    var files: [String: [UInt8]] = [:]
    let (start, end) = (Array("\n==> ".utf8), Array(" <==\n".utf8))
    var name: String?
    var first = 0
    var index = 0
    let bytes = [10] + bytes
    while index + start.count < bytes.count {
      guard bytes[index] == 10, bytes[index..<index + start.count].elementsEqual(start),
        let line = bytes[(index + start.count)...].firstIndex(of: 10),
        bytes[index...line].suffix(end.count).elementsEqual(end)
      else {
        index += 1
        continue
      }
      if let name { files[name] = Array(bytes[first..<index]) }
      name = String(decoding: bytes[index + start.count..<line + 1 - end.count], as: UTF8.self)
      first = line + 1
      // The next one may begin at this line's end where the file is empty.
      index = line + 1
    }
    return files
  }

  private mutating func take(links text: String) {
    var directory = ""
    for line in text.split(separator: "\n") {
      if line.hasSuffix(":"), !line.contains(" ") { directory = line.dropLast() + "/" }
      guard let arrow = line.range(of: " -> "), let name = line[..<arrow.lowerBound].split(separator: " ").last else {
        continue
      }
      links[(name.contains("/") ? "" : directory) + name] = String(line[arrow.upperBound...])
    }
  }

  private mutating func findReaders() {
    var parents: [Int: Int] = [:]
    for (name, bytes) in files where name.hasSuffix("/stat") && name.split(separator: "/").count == 2 {
      let text = String(decoding: bytes, as: UTF8.self)
      guard let pid = Int(text.prefix { $0 != " " }), let close = text.lastIndex(of: ")") else { continue }
      let fields = text[close...].split(separator: " ")
      parents[pid] = fields.count > 2 ? Int(fields[2]) : nil
      // The program that runs scripts, and whatever it started.
      if text.contains(" (agent) ") { readers.insert(pid) }
    }
    for _ in 0..<8 {
      for (pid, parent) in parents where readers.contains(parent) && parent != 1 { readers.insert(pid) }
    }
  }

  private static func process(_ name: String) -> Int? { Int(name.prefix { $0 != "/" }) }

  /// How often a thread has run.
  private static func switches(_ status: [UInt8]) -> [Substring] {
    String(decoding: status, as: UTF8.self).split(separator: "\n").filter { $0.contains("_ctxt_switches") }
  }

  /// - Returns: the processes that ran until the guest stood still.
  func compareFiles(_ path: String) throws -> Set<Int> {
    var compared: [String: Int] = [:]
    var moved: Set<Int> = []
    for (name, bytes) in files.sorted(by: { $0.key < $1.key }) {
      if name.hasPrefix("sys/"), !Self.fixed.contains(name) { continue }
      let isDescriptor = name.contains("/fdinfo/")
      let kind = isDescriptor ? "fdinfo" : name.split(separator: "/").last.map(String.init) ?? name
      if let pid = Self.process(name) {
        if readers.contains(pid) { continue }
        // What has run until the guest stood still has changed: kernel threads, and a process that is busy.
        let directory = "\(pid)/"
        if let status = files[directory + "status"], let now = Self.contents(path, directory + "status"),
          Self.switches(status) != Self.switches(now)
        {
          moved.insert(pid)
          continue
        }
      }
      guard let shadow = Self.contents(path, name) else {
        // What kernel threads have no memory for is this error in the guest, too.
        if kind == "smaps_rollup", bytes.isEmpty, errno == ESRCH {
          compared[kind, default: 0] += 1
        } else {
          Issue.record("\(name) cannot be read: \(String(cString: strerror(errno)))")
        }
        continue
      }
      compared[kind, default: 0] += 1
      if Self.moving.contains(name) {
        Self.expectNear(name, bytes, shadow)
      } else if Self.ofMemory.contains(kind) {
        Self.expectMemory(name, bytes, shadow)
      } else if kind == "status" {
        // A signal that says that the reading process has ended counts for all processes of its user.
        Self.expect(name, bytes, shadow) { line in line.hasPrefix("SigQ:") ? "" : line }
      } else if name == "net/tcp" {
        Self.expect(name, bytes, shadow, Self.withoutTimers)
      } else {
        Self.expect(name, bytes, shadow) { $0 }
      }
    }
    let sum = try BuiltTool.output(of: "/usr/bin/sha256sum", input: path + "/proc/kallsyms")
    #expect(sum == printed["kallsyms"], "kallsyms")
    #expect(moved.count < 40, "threads that ran meanwhile: \(moved.sorted())")
    for file in Self.fixed + Self.moving {
      #expect(compared[String(file.split(separator: "/").last ?? "")] != nil, "\(file) was not compared")
    }
    for file in Self.ofProcesses where file != "environ" {
      let kind = file == "fdinfo/*" ? "fdinfo" : String(file.split(separator: "/").last ?? "")
      // Kernel threads have no memory, and from 6.12 on not even an empty list of what it began with, and no sum of it.
      #expect(
        compared[kind] ?? 0 > (["auxv", "smaps_rollup"].contains(kind) ? 30 : 50),
        "\(kind) of \(compared[kind] ?? 0) processes")
    }
    return moved
  }

  /// A socket of TCP without what goes by the clock: when its timer expires, and how often one that nobody answers has tried.
  private static func withoutTimers(_ line: String) -> String {
    var words = line.split(separator: " ").map(String.init)
    guard words.count > 8 else { return line }
    let timer = words[5].prefix(3)
    guard timer != "00:" else { return line }
    words[5] = String(timer)
    // TCP_SYN_SENT.
    if words[3] == "02" { words.replaceSubrange(6..., with: []) }
    return words.joined(separator: " ")
  }

  /// Everything below /proc/sys: the names, and what each file shows.
  func compareSettings(_ path: String) throws {
    let found = try BuiltTool.output(of: "/bin/sh", ["-c", "cd '\(path)/proc' && find sys -type f | LC_ALL=C sort"])
    let own = Set((printed["find"] ?? "").split(separator: "\n")), other = Set(found.split(separator: "\n"))
    #expect(own == other, "\(own.symmetricDifference(other).sorted())")
    var compared = 0
    for (name, bytes) in files.sorted(by: { $0.key < $1.key }) where name.hasPrefix("sys/") {
      guard let shadow = Self.contents(path, name) else {
        Issue.record("\(name) cannot be read: \(String(cString: strerror(errno)))")
        continue
      }
      if Self.movingSettings.contains(name) {
        Self.expectNear(name, bytes, shadow)
      } else {
        Self.expect(name, bytes, shadow) { $0 }
      }
      compared += 1
    }
    #expect(compared > 800)
    // Nobody may read them, root neither.
    #expect(Self.contents(path, "sys/vm/compact_memory") == nil && errno == EACCES)
    #expect(Self.contents(path, "sys/net/ipv6/conf/all/stable_secret") == nil && errno == EIO)
  }

  /// The log's records, and files of /sys.
  func compareSystem(_ path: String) throws {
    let log = try String(contentsOfFile: path + "/dev/kmsg", encoding: .utf8)
    let own = (printed["kmsg"] ?? "").split(separator: "\n")
    let first = zip(own, log.split(separator: "\n")).first { $0 != $1 }
    #expect(own.count == 200 && first == nil, "'\(first?.0 ?? "")' is '\(first?.1 ?? "")'")
    for (name, bytes) in system.sorted(by: { $0.key < $1.key }) {
      // What the kernel says of clusters has no use here yet.
      if name.contains("cluster_") { continue }
      // Put together of many settings, and so an error here where the processors have the fault.
      if name.hasSuffix("/spectre_v2"), bytes != Array("Not affected\n".utf8) {
        #expect(Self.contents(path, "../sys/" + name) == nil && errno == EIO)
        continue
      }
      guard let shadow = Self.contents(path, "../sys/" + name) else {
        Issue.record("\(name) cannot be read: \(String(cString: strerror(errno)))")
        continue
      }
      // An interface that is up looks for routers, now and then.
      if name.contains("/statistics/") || name.hasSuffix("/meminfo") || name.hasSuffix("/numastat") {
        Self.expectNear(name, bytes, shadow)
      } else {
        Self.expect(name, bytes, shadow) { $0 }
      }
    }
    #expect(system.count > 80)
  }

  func compareLinks(_ path: String) throws {
    var compared = 0
    for (name, target) in links.sorted(by: { $0.key < $1.key }) {
      guard let pid = Self.process(name), !readers.contains(pid), files["\(pid)/stat"] != nil else { continue }
      let found = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(path)/proc/\(name)")
      #expect(found == target, "\(name)")
      compared += 1
    }
    #expect(compared > 500)
  }

  func compareTools(_ shadow: MountedShadow, without moved: Set<Int>) throws {
    for tool in Self.tools {
      /// Without the processes that read, and those that began since: `ps` itself.
      func lines(_ text: String) -> [String] {
        text.split(separator: "\n").map(String.init).filter { line in
          let pid = line.split(separator: " ").first.flatMap { Int($0) }
          return pid.map { !readers.contains($0) && !moved.contains($0) && files["\($0)/stat"] != nil } ?? true
        }
      }
      // Kernel workers are called by what they worked on last, and a process of the guest's runs now and then.
      func steady(_ line: String) -> String { line.contains("kworker/") || line.hasSuffix(" busy") ? "" : line }
      func pid(_ line: String) -> Substring? { line.split(separator: " ").first }
      let printed = lines(printed[tool] ?? "")
      let known = Set(printed.compactMap(pid))
      // A kernel worker may have begun between the guest's list and its files.
      let shown = lines(try shadow.run(tool)).filter { line in
        !line.contains("kworker/") || pid(line).map(known.contains) ?? true
      }
      let (own, other) = (printed.map(steady), shown.map(steady))
      let first = zip(own, other).first { $0 != $1 }
      #expect(
        own.count == other.count && first == nil,
        "\(tool): '\(first?.0 ?? "")' is '\(first?.1 ?? "")'; \(own.count) lines and \(other.count)")
      #expect(!own.isEmpty)
    }
    let pids = Set(files.keys.compactMap { name in name.hasSuffix("/stat") ? Self.process(name) : nil })
      .subtracting(readers)
    // This machine's own tools, as they are.
    let all = try shadow.run("ps -e -o pid=").split(separator: "\n").compactMap {
      Int($0.trimmingCharacters(in: .whitespaces))
    }
    #expect(pids.subtracting(all).isEmpty)
    #expect(try shadow.run("ps aux").split(separator: "\n").count == all.count + 1)
    let threads = try shadow.run("ps -eLf").split(separator: "\n").count
    #expect(threads > all.count)
    #expect(try shadow.run("free").contains("Mem:"))
    #expect(try shadow.run("vmstat").contains("procs"))
    #expect(try shadow.run("uptime").contains("load average"))
    #expect(try shadow.run("pgrep workload").isEmpty == false)
    #expect(try shadow.run("top -b -n1").contains("\(all.count) total"))
  }

  /// The bytes of a file of the shadow; nil where it cannot be read, with errno.
  private static func contents(_ path: String, _ name: String) -> [UInt8]? {
    let file = open("\(path)/proc/\(name)", O_RDONLY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 17)
    while true {
      let count = read(file, &buffer, buffer.count)
      if count < 0 { return nil }
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }

  /// The first line in which they differ.
  private static func expect(_ name: String, _ guest: [UInt8], _ shadow: [UInt8], _ form: (String) -> String) {
    guard guest != shadow else { return }
    func lines(_ bytes: [UInt8]) -> [String] {
      String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false).map {
        form(String($0))
      }
    }
    let (own, other) = (lines(guest), lines(shadow))
    let first = zip(own, other).first { $0 != $1 }
    let differs = own.count != other.count || first != nil
    #expect(
      !differs,
      "\(name): the guest has \(own.count) lines, the shadow \(other.count): '\(first?.0 ?? "")' is '\(first?.1 ?? "")'"
    )
  }

  /// The same but for how many others have the same pages mapped, which the reading changes.
  private static func expectMemory(_ name: String, _ guest: [UInt8], _ shadow: [UInt8]) {
    func lines(_ bytes: [UInt8]) -> [String] {
      var sums: [String: Int] = [:]
      return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
        let words = line.split(separator: " ").map(String.init)
        guard words.count == 3, words[2] == "kB", let kilobytes = Int(words[1]) else {
          sums = [:]
          return words.filter { !$0.hasPrefix("mapmax=") }.joined(separator: " ")
        }
        if words[0].hasPrefix("Pss") { return words[0] }
        // Shared or private: whose it is depends on the others.
        guard words[0].hasSuffix("_Clean:") || words[0].hasSuffix("_Dirty:") else { return String(line) }
        let kind = String(words[0].suffix(6))
        sums[kind, default: 0] += kilobytes
        return words[0].hasPrefix("Private") ? "\(kind) \(sums[kind] ?? 0)" : words[0]
      }
    }
    let (own, other) = (lines(guest), lines(shadow))
    let first = zip(own, other).first { $0 != $1 }
    #expect(
      own.count == other.count && first == nil,
      "\(name): the guest has \(own.count) lines, the shadow \(other.count): '\(first?.0 ?? "")' is '\(first?.1 ?? "")'"
    )
  }

  /// Files of columns.
  private static let aligned: Set<String> = [
    "meminfo", "slabinfo", "interrupts", "softirqs", "buddyinfo", "net/packet",
  ]

  /// The same words in the same lines, and numbers that the reading may have moved.
  private static func expectNear(_ name: String, _ guest: [UInt8], _ shadow: [UInt8]) {
    func words(_ line: Substring) -> [Substring] { line.split { " \t:/.=(),".contains($0) } }
    let own = String(decoding: guest, as: UTF8.self).split(separator: "\n")
    let other = String(decoding: shadow, as: UTF8.self).split(separator: "\n")
    #expect(own.count == other.count, "\(name)")
    for (one, two) in zip(own, other) {
      let (first, second) = (words(one), words(two))
      let isNear =
        first.count == second.count
        && zip(first, second).allSatisfy { a, b in
          // Some have their counters in hexadecimal, of which some are times that a timer has left.
          if name.hasPrefix("net/igmp"), Int(a, radix: 16) != nil, Int(b, radix: 16) != nil { return true }
          if name == "net/softnet_stat" || name.hasPrefix("net/stat/"), let a = Int(a, radix: 16),
            let b = Int(b, radix: 16)
          {
            return abs(a - b) < 1000
          }
          // A hashed address may read as a number that has no end.
          guard a != b else { return true }
          guard let a = Double(a), let b = Double(b) else { return false }
          // What waits to be read, where somebody listens to all packets.
          if name == "net/packet" { return true }
          // Nanoseconds that CPUs ran, which only grow.
          if name == "schedstat" { return a <= b }
          // Microseconds that tasks waited, which only grow, and no faster than time; what is not above 100 is a share in percent.
          if name.hasPrefix("pressure/"), max(a, b) > 100 { return a <= b && b - a < 60_000_000 }
          return abs(a - b) <= max(20000, a / 5)
        }
      #expect(isNear, "\(name): '\(one)' is '\(two)'")
      // Blanks are as many, but for numbers of other lengths.
      if aligned.contains(name), one.count != two.count {
        Issue.record("\(name): '\(one)' is '\(two)'")
      }
    }
  }
}
