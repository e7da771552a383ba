import Foundation
import Lab
import Testing

extension GuestTests {
  /// Programs of this machine that see a guest in the place of their own host: what they print, against the guest's own.
  @Suite(.serialized) struct ExecTests {
    /// The guests of the tests of files.
    static let guests = standardGuests.map { kind in
      var kind = kind
      kind.memory = 768
      return kind
    }

    /// What is the same inside the guest and here: programs that exist in both, and nothing in what they print that their own
    /// running moves.
    private static let same = [
      "uname -a", "hostname", "nproc", "busybox lsmod", "cat /proc/version /proc/cmdline /proc/self/mountinfo",
      "busybox pidof workload", "readlink /proc/1/exe; readlink /proc/1/cwd", "cat /proc/1/limits",
      // By the two calls that tell what a link leads to.
      "stat -L -c '%d %i %s %f %u %h' /proc/1/exe /proc/1/cwd /proc/1/root /proc/1/fd/0",
      "busybox stat -L -c '%d %i %s %f %u %h %t:%T' /proc/1/exe /proc/1/fd/0",
      // How the clock is kept, but for the time.
      "busybox adjtimex | grep -v time.tv",
      "busybox ip rule; busybox ip -6 rule; busybox ip route show table local",
      "cat /proc/sysvipc/*",
      "busybox ip route get 127.0.0.1 2>&1; busybox ip route get 10.1.1.1 2>&1",
    ]

    @Test(arguments: guests)
    func programsSeeTheHost(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      _ = try guest.run("ip link set lo up; MODE=shared workload > /dev/null 2>&1 & sleep 1")
      let own = try Self.same.map { try guest.run($0) }
      let pids = try guest.run("cd /proc; echo [0-9]*").text.split(whereSeparator: \.isWhitespace).compactMap {
        Int32($0)
      }
      let memory = try guest.run("busybox free -b").text
      _ = try guest.run(
        """
        nc -l -p 8080 >/dev/null 2>&1 </dev/null &
        for i in 1 2 3 4 5; do netstat -tln | grep -q 8080 && break; sleep 1; done
        """)
      let room = try ["df -k", "df -i"].map { try guest.run($0).text }
      try guest.pause()
      let exec = Exec(source: ["--memory", guest.memoryPath])
      for (command, own) in zip(Self.same, own) {
        let result = try exec.run("sh", "-c", command)
        #expect(result.output == own.text && result.status == own.status, "\(command): \(result.errors)")
        #expect(result.errors.isEmpty, "\(command)")
      }
      try Self.checkProcesses(exec, pids)
      // What sysinfo says of memory: the total is always the same.
      let total = { (text: String) in text.split(separator: "\n").dropFirst().first?.split(separator: " ")[1] }
      #expect(try total(exec.run("busybox", "free", "-b").output) == total(memory))
      try Self.checkNetwork(exec)
      // What a thread used, by generic netlink.
      let used = try exec.run("/usr/bin/python3", "-S", "-c", Self.taskStatistics)
      #expect(used.output.split(separator: " ").first == "1" && used.output.contains(" init"), "\(used)")
      // The clocks of the guest, which are read without a call.
      let clocks = try exec.run(
        "/usr/bin/python3", "-S", "-c",
        "import time; print(abs(time.clock_gettime(7) - float(open('/proc/uptime').read().split()[0])) < 60)")
      #expect(clocks.output == "True\n", "\(clocks)")
      // The memory of the guest in its blocks.
      #expect(try exec.run("lsmem", "-b", "--summary=only").output.contains("\(kind.memory << 20)"))
      // Of one whose place is a file system's here, too: df looks at this machine's to tell which are the same.
      for (command, own) in zip(["-k", "-i"], room) {
        // The two programs round otherwise.
        func numbers(_ text: String) -> [Substring]? {
          let line = text.split(separator: "\n").first { $0.hasSuffix(" /dev/shm") }
          return line?.split(separator: " ").filter { !$0.hasSuffix("%") }
        }
        let shown = try exec.run("df", command, "/dev/shm").output
        #expect(numbers(shown) == numbers(own) && numbers(own)?.count == 5, "\(shown) \(own)")
      }
      try Self.checkOwn(exec)
    }

    /// Asks which number taskstats has, then of process 1: prints the number and the name that are in the answer.
    private static let taskStatistics = """
      import socket, struct
      s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
      def ask(kind, command, attribute, value):
        body = struct.pack("BBHHH", command, 1, 0, 4 + len(value), attribute) + value + b"\\0" * (-len(value) % 4)
        s.send(struct.pack("IHHII", 16 + len(body), kind, 1, 1, 0) + body)
        return s.recv(65536)
      answer = ask(16, 3, 2, b"TASKSTATS\\0")
      place = answer.index(struct.pack("HH", 6, 1), 20)
      family = struct.unpack_from("H", answer, place + 4)[0]
      answer = ask(family, 1, 1, struct.pack("I", 1))
      number, statistics = struct.unpack_from("I", answer, 28)[0], answer[36:]
      print(number, struct.unpack_from("H", statistics)[0], statistics[80:112].split(b"\\0")[0].decode())
      """

    /// By netlink, by files and by netdevice's requests.
    private static func checkNetwork(_ exec: Exec) throws {
      let link = try exec.run("ip", "-o", "link", "show", "lo").output
      #expect(
        link == """
          1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\\    \
          link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00

          """)
      let addresses = try exec.run("ip", "-o", "addr").output
      #expect(addresses.contains("inet 127.0.0.1/8 scope host lo") && addresses.contains("inet6 ::1/128 scope host"))
      #expect(
        try exec.run("ip", "route", "show", "table", "local").output.contains(
          "local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.0.1"))
      let change = try exec.run("ip", "link", "set", "lo", "down")
      #expect(change.status != 0 && change.errors.contains("Operation not permitted"))
      for command in [["ss", "-tlnp"], ["netstat", "-tlnp"]] {
        let sockets = try exec.run(command).output
        #expect(sockets.contains(":8080") && sockets.contains("nc"), "\(command): \(sockets)")
      }
      #expect(try exec.run("ss", "-xp").output.contains("(\"workload\","))
      // SIOCGIFMTU and SIOCGIFADDR, which programs of all ages know.
      let requests = """
        import fcntl, socket, struct
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        print(struct.unpack_from("i", fcntl.ioctl(s, 0x8921, struct.pack("256s", b"lo")), 16)[0],
          socket.inet_ntoa(fcntl.ioctl(s, 0x8915, struct.pack("256s", b"lo"))[20:24]))
        """
      #expect(try exec.run("/usr/bin/python3", "-S", "-c", requests).output == "65536 127.0.0.1\n")
    }

    /// Processes are those of the host, by files and by calls alike; what would act on them is refused.
    private static func checkProcesses(_ exec: Exec, _ pids: [Int32]) throws {
      let listed = try exec.run("ps", "-e", "-o", "pid=").output.split(whereSeparator: \.isWhitespace).compactMap {
        Int32($0)
      }
      // Those that listed them have ended; the ps that lists itself here is of this machine.
      #expect(pids.count > 50 && Set(pids).subtracting(listed).count <= 2 && Set(listed).subtracting(pids).count <= 3)
      let last = try #require(pids.max())
      let calls = """
        import os
        def ask(call):
          try: return call()
          except OSError as error: return error.errno
        for pid in range(1, \(last + 3)):
          print(pid, ask(lambda: os.kill(pid, 0)), ask(lambda: os.getpgid(pid)), ask(lambda: os.getsid(pid)),
            ask(lambda: os.getpriority(os.PRIO_PROCESS, pid)), ask(lambda: os.sched_getscheduler(pid)),
            ask(lambda: sorted(os.sched_getaffinity(pid)) and 0))
        """
      let asked = try exec.run("/usr/bin/python3", "-S", "-c", calls)
      // By the files of the same threads; a name may hold anything, and what follows its bracket is numbers.
      let files = """
        import glob
        for path in glob.glob("/proc/[0-9]*/task/*/stat"):
          text = open(path, "rb").read()
          fields = text[text.rindex(b")"):].split()
          print(path.split("/")[4], "None", *(fields[n].decode() for n in (3, 4, 17, 39)), 0)
        """
      var expected: [Int32: String] = [:]
      for line in try exec.run("/usr/bin/python3", "-S", "-c", files).output.split(separator: "\n") {
        let parts = line.split(separator: " ", maxSplits: 1)
        expected[try #require(Int32(parts[0]))] = String(parts[1])
      }
      #expect(expected.count > 50)
      for line in asked.output.split(separator: "\n") {
        let parts = line.split(separator: " ", maxSplits: 1)
        let tid = Int32(parts[0]) ?? 0
        // ESRCH is 3.
        #expect(parts.last.map(String.init) == expected[tid] ?? "3 3 3 3 3 3", "of \(tid)")
      }
      #expect(asked.output.split(separator: "\n").count == Int(last) + 2)

      let killed = try exec.run("/usr/bin/python3", "-S", "-c", "import os; os.kill(1, 9)")
      #expect(
        killed.status == 1 && killed.errors.contains("kill was refused: it would send signal 9 to the host's process 1")
      )
      #expect(try exec.run("cat", "/proc/1/exe").errors.contains("Permission denied"))
    }

    /// A program finds itself, ends its children, and its status is the command's.
    private static func checkOwn(_ exec: Exec) throws {
      let itself = try exec.run(
        "bash", "-c",
        """
        cat /proc/$$/comm; [ "$(readlink /proc/self/exe)" = "$(command -v readlink)" ] && echo exe
        kill -0 $$ && sleep 100 & kill $!; wait $!; echo $?; cat <(echo fd); cd /proc/self/task/ && ls | wc -l
        [ -e /proc/$$/stat ] && ls /proc | grep -c "^$$\\$"; ls /run /sys | wc -l
        """)
      #expect(itself.output.hasPrefix("bash\nexe\n143\nfd\n1\n1\n"), "\(itself.output) \(itself.errors)")
      // It is among all processes, whichever way it asks, and is counted with them.
      let among = """
        import ctypes, glob, os, struct
        me, most = os.getpid(), int(open("/proc/sys/kernel/pid_max").read())
        def ask(call, *arguments):
          try: return call(*arguments) is None or True
          except OSError as error: return error.errno
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        information = ctypes.create_string_buffer(128)
        ctypes.CDLL(None).sysinfo(information)
        threads = len(glob.glob("/proc/[0-9]*/task/*"))
        print(me in listed, ask(os.getpgid, me), ask(os.kill, me, 0), struct.unpack_from("H", information, 80)[0] - threads)
        # A number that nobody has: by each call, and by the file system for those that come by a folder.
        ways = [lambda: os.stat("/proc/%d" % most), lambda: os.chdir("/proc/%d" % most), lambda: os.listdir("/proc/%d" % most),
          lambda: open("/proc/%d/stat" % most), lambda: os.kill(most, 0), lambda: os.sched_getaffinity(most)]
        os.chdir("/proc")
        print(*(ask(way) for way in ways + [lambda: os.stat("%d" % most), lambda: open("%d/stat" % most)]))
        # What comes at once is what the file system has.
        folder = os.open("/proc/1", os.O_RDONLY)
        def read(name, **how):
          with open(name, "rb", **how) as file: return file.read()
        print(*(len({read("/proc/1/" + name), read("1/" + name), read(name, opener=lambda n, f: os.open(n, f, dir_fd=folder)),
          read("/proc/1/task/1/../../" + name)}) for name in ["stat", "status", "statm", "cmdline", "comm", "limits", "io"]))
        """
      let found = try exec.run("/usr/bin/python3", "-S", "-c", among)
      #expect(found.output == "True True True 0\n2 2 2 2 3 3 2 2\n1 1 1 1 1 1 1\n", "\(found.output) \(found.errors)")
      #expect(try exec.run("sh", "-c", "exit 7").status == 7)
      #expect(try exec.run("sh", "-c", "kill -TERM $$").status == 128 + 15)
      let missing = try exec.run("/nothing/here")
      #expect(missing.status == 127 && missing.errors.contains("/nothing/here: No such file or directory"))
      // Nothing stays: neither a folder nor a mount.
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("grass-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
      var there = exec
      there.environment = ["TMPDIR": folder.path]
      #expect(try there.run("sh", "-c", "ls $TMPDIR").output.contains("grass-exec-"))
      #expect(rmdir(folder.path) == 0)
      #expect(try !String(contentsOfFile: "/proc/mounts", encoding: .utf8).contains(folder.path))
    }
  }
}

extension OwnGuestTests {
  /// A guest whose own tools are lied to, and which then dies.
  @Suite(.serialized) struct ExecOfBrokenHostsTests {
    @Test(.guests(1)) func programsSeeWhatARootkitHidesAndWhatAPanicLeaves() throws {
      let known = try KernelStore().kernel("6.1")
      let one = try Breaks.named("hidden-module-kobject")
      // Without headers of the kernel there is no module that hides.
      guard known.lacks(for: one) == nil, let module = known.module("break"), let hide = known.module("hide") else {
        return
      }
      var options = GuestOptions(kernel: "6.1", memory: 512, sleepers: 3)
      options.isBreakable = true
      options.programs += [module.path, hide.path]
      let guest = try Guest(options)
      defer { guest.shutDown() }
      try one.preparation.map { try guest.perform($0) }
      try guest.perform(one)
      let hidden = try guest.run(
        """
        nc -l -p 31337 >/dev/null 2>&1 </dev/null & victim=$!
        for i in 1 2 3 4 5; do netstat -tln | grep -q 31337 && break; sleep 1; done
        insmod /modules/hide.ko victim=$victim || exit 1; echo $victim
        """)
      let victim = hidden.text.split(whereSeparator: \.isWhitespace).last.map(String.init) ?? ""
      // Its own tools are lied to: no module, no process, and a socket that nobody has.
      let lied = try guest.run("cut -d' ' -f1 /proc/modules; ps -o args; ls -d /proc/\(victim) 2>&1; netstat -tlnp")
        .text
      #expect(!lied.contains("break\n") && !lied.contains("31337 >") && !lied.contains("nc -l"), "\(lied)")

      let daemon = try GrassDaemon(memory: guest.memoryPath)
      defer { daemon.bury() }
      let exec = Exec(source: ["--host", daemon.urls[1]])
      #expect(try exec.run("busybox", "lsmod").output.contains("break "))
      let processes = try exec.run("ps", "-e", "-o", "pid=,args=").output
      #expect(processes.contains("\(victim) nc -l -p 31337"), "\(processes)")
      #expect(try exec.run("sh", "-c", "kill -0 \(victim) && cat /proc/\(victim)/comm").output == "nc\n")
      let sockets = try exec.run("ss", "-tlnp").output
      #expect(sockets.contains(":31337") && sockets.contains("pid=\(victim),"), "\(sockets)")

      try guest.send("echo c > /proc/sysrq-trigger")
      try guest.waitForConsole("end Kernel panic")
      let after = try exec.run("ps", "aux").output
      #expect(after.contains("nc -l -p 31337") && after.split(separator: "\n").count > 30, "\(after)")
      #expect(try exec.run("dmesg").output.contains("Kernel panic - not syncing: sysrq triggered crash"))
      #expect(try exec.run("lsof", "-p", victim).output.contains("TCP"))
    }
  }
}

/// Runs programs by `grassctl exec`.
struct Exec {
  let source: [String]
  var environment: [String: String] = [:]

  func run(_ command: String...) throws -> (output: String, errors: String, status: Int32) { try run(command) }

  func run(_ command: [String]) throws -> (output: String, errors: String, status: Int32) {
    let process = Process()
    // A program that waits for an answer that never comes is ended.
    process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
    let grassctl = BuiltTool.directory.appendingPathComponent("grassctl").path
    process.arguments = ["--foreground", "180", grassctl, "exec"] + source + ["--"] + command
    if !environment.isEmpty {
      process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    }
    let (output, errors) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError) = (output, errors)
    process.standardInput = FileHandle.nullDevice
    try Spawner.shared.start(process)
    // Little is said on the other, so that it cannot fill up.
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let said = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (String(decoding: text, as: UTF8.self), String(decoding: said, as: UTF8.self), process.terminationStatus)
  }
}
