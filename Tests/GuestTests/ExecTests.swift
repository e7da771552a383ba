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
    ]

    @Test(arguments: guests)
    func programsSeeTheHost(_ kind: GuestOptions) throws {
      let guest = try SharedGuests.shared.guest(kind)
      let own = try Self.same.map { try guest.run($0).text }
      let pids = try guest.run("cd /proc; echo [0-9]*").text.split(whereSeparator: \.isWhitespace).compactMap {
        Int32($0)
      }
      let memory = try guest.run("busybox free -b").text
      try guest.pause()
      let exec = Exec(source: ["--memory", guest.memoryPath])
      for (command, own) in zip(Self.same, own) {
        let result = try exec.run("sh", "-c", command)
        #expect(result.output == own && result.status == 0 && result.errors.isEmpty, "\(command): \(result.errors)")
      }
      try Self.checkProcesses(exec, pids)
      // What sysinfo says of memory: the total is always the same.
      let total = { (text: String) in text.split(separator: "\n").dropFirst().first?.split(separator: " ")[1] }
      #expect(try total(exec.run("busybox", "free", "-b").output) == total(memory))
      try Self.checkOwn(exec)
    }

    /// Processes are those of the host, by files and by calls alike; what would act on them is refused.
    private static func checkProcesses(_ exec: Exec, _ pids: [Int32]) throws {
      let listed = try exec.run("ps", "-e", "-o", "pid=").output.split(whereSeparator: \.isWhitespace).compactMap {
        Int32($0)
      }
      // Those that listed them have ended.
      #expect(pids.count > 50 && Set(pids).subtracting(listed).count <= 2 && Set(listed).subtracting(pids).count <= 2)
      let last = try #require(listed.max())
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
      #expect(itself.output.hasPrefix("bash\nexe\n143\nfd\n1\n0\n"), "\(itself.output) \(itself.errors)")
      #expect(try exec.run("sh", "-c", "exit 7").status == 7)
      #expect(try exec.run("sh", "-c", "kill -TERM $$").status == 128 + 15)
      let missing = try exec.run("/nothing/here")
      #expect(missing.status == 127 && missing.errors.contains("/nothing/here: No such file or directory"))
      #expect(try FileManager.default.contentsOfDirectory(atPath: "/tmp").allSatisfy { !$0.hasPrefix("grass-exec-") })
      #expect(try !String(contentsOfFile: "/proc/mounts", encoding: .utf8).contains("grass-exec-"))
    }
  }
}

/// Runs programs by `grassctl exec`.
struct Exec {
  let source: [String]

  func run(_ command: String...) throws -> (output: String, errors: String, status: Int32) {
    let process = Process()
    process.executableURL = BuiltTool.directory.appendingPathComponent("grassctl")
    process.arguments = ["exec"] + source + ["--"] + command
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
