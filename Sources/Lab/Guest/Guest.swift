import Foundation
import Synchronization

/// A real Linux kernel in QEMU, whose RAM lies in a file that others can read.
///
/// Nothing of it outlives this process: RAM, console and first file system are anonymous files, the sockets are abstract,
/// and QEMU is killed by the kernel when this process ends, also by SIGKILL.
public final class Guest: Sendable {
  public let options: GuestOptions
  /// Where the guest's RAM can be opened as long as this process lives.
  public let memoryPath: String
  /// Where QEMU says by QMP how the guest is, to one who asks: an abstract Unix socket, behind an @.
  public let statusSocket: String
  /// The process id of QEMU.
  public let processID: Int32
  /// How long it took from the start of QEMU to the first command.
  public let bootTime: Duration

  private let process: Mutex<Process>
  private let ram: GuestMemory
  private let consoleFile: AnonymousFile
  private let agent: Mutex<Agent>
  private let monitor: Mutex<QMPConnection>

  /// The way to the guest's agent.
  private struct Agent {
    let socket: AbstractSocket
    /// The number of the newest command.
    ///
    /// Answers carry it: one that nobody waited for must not pass for the next one's.
    var number = 0
    /// The size of an answer whose header was read and whose bytes were not, since the time ran out between the two.
    var owed = 0

    mutating func write(_ script: String) throws(LabError) {
      number += 1
      let bytes = Array(script.utf8)
      try socket.write(Array("\(number) \(bytes.count)\n".utf8) + bytes)
    }

    /// The next answer, whosever it is.
    mutating func read(
      deadline: ContinuousClock.Instant
    ) throws(LabError) -> (number: Int, status: Int, bytes: [UInt8]) {
      _ = try socket.read(count: owed, deadline: deadline)
      owed = 0
      let header = String(decoding: try socket.readLine(deadline: deadline), as: UTF8.self)
      let parts = header.split(separator: " ").compactMap { Int($0) }
      guard parts.count == 3, parts[2] >= 0 else { throw LabError("the guest's agent answered '\(header)'") }
      owed = parts[2]
      let bytes = try socket.read(count: owed, deadline: deadline)
      owed = 0
      return (parts[0], parts[1], bytes)
    }

    /// Runs a script and waits for its own answer.
    mutating func run(_ script: String, deadline: ContinuousClock.Instant) throws(LabError) -> Output {
      try write(script)
      while true {
        let answer = try read(deadline: deadline)
        if answer.number == number { return Output(status: answer.status, bytes: answer.bytes) }
      }
    }
  }

  /// What a command in the guest printed and how it ended.
  public struct Output: Sendable {
    public let status: Int
    /// Standard output and standard error as they came.
    public let bytes: [UInt8]
    public var text: String { String(decoding: bytes, as: UTF8.self) }
  }

  /// Boots a guest and waits until it takes commands.
  ///
  /// Its RAM lies in `ram`, with whatever lies there already, as after a reboot; by default in memory of its own.
  ///
  /// - Throws: ``LabError`` with the end of the guest's console if it does not come up within `timeout`.
  public init(
    _ options: GuestOptions, ram: GuestMemory? = nil, store: KernelStore = KernelStore(),
    timeout: Duration = .seconds(120)
  ) throws {
    let start = ContinuousClock.now
    let kernel = try store.kernel(options.kernel)
    let initramfs = try AnonymousFile(name: "grass-initramfs", count: 0)
    try FileHandle(fileDescriptor: initramfs.descriptor, closeOnDealloc: false).write(
      contentsOf: Data(
        Initramfs.make(
          options,
          modules: (options.network == nil ? [] : try kernel.modules())
            + (options.hasDisk ? try kernel.diskModules() : []),
          cache: store.directory.deletingLastPathComponent())))

    let machine = try Machine.bootSound(
      options, ram, kernel: kernel, initramfs: initramfs, disk: options.hasDisk ? try store.diskImage().path : nil,
      timeout: options.hasDisk ? timeout * 4 : timeout)
    self.options = options
    statusSocket = "@\(machine.name)-status"
    processID = machine.process.processIdentifier
    memoryPath = machine.ram.path
    self.ram = machine.ram
    consoleFile = machine.console
    process = Mutex(machine.process)
    monitor = Mutex(machine.monitor)
    agent = Mutex(machine.agent)
    bootTime = ContinuousClock.now - start
  }

  /// A QEMU that has just booted.
  private struct Machine: ~Copyable {
    let ram: GuestMemory
    let console: AnonymousFile
    let process: Process
    let monitor: QMPConnection
    /// What its sockets' names begin with.
    let name: String
    var agent: Agent

    /// Boots until a guest is sound.
    ///
    /// Once in some dozens of boots the emulation panics the kernel on its way up, leaves it standing there, or leaves a CPU without
    /// its timer, so that what sleeps on it never wakes. Who stands gets a quarter of `timeout`, then half of it, and all of it the third time;
    /// who boots from a disk, half of it twice.
    static func bootSound(
      _ options: GuestOptions, _ ram: GuestMemory?, kernel: KernelStore.Kernel, initramfs: AnonymousFile,
      disk: String?, timeout: Duration
    ) throws -> Machine {
      for share in [disk == nil ? 4 : 2, 2] {
        do {
          var machine = try boot(
            options, ram, kernel: kernel, initramfs: initramfs, disk: disk, deadline: .now + timeout / share)
          if machine.timersRun(cpus: options.cpus) { return machine }
          machine.end()
        } catch let error as LabError where error.reason != nil {
          // Another boot may do better.
          continue
        }
      }
      return try boot(options, ram, kernel: kernel, initramfs: initramfs, disk: disk, deadline: .now + timeout)
    }

    private static let panicEnd = "end Kernel panic"

    private static func boot(
      _ options: GuestOptions, _ given: GuestMemory?, kernel: KernelStore.Kernel, initramfs: AnonymousFile,
      disk: String?, deadline: ContinuousClock.Instant
    ) throws -> Machine {
      let ram = try given ?? GuestMemory(mebibytes: options.memory, inHugePages: options.hugePages)
      let console = try AnonymousFile(name: "grass-console", count: 0)
      let name = "grass-\(getpid())-\(UUID().uuidString.prefix(8))"
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/setpriv")
      process.arguments =
        ["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]
        + Guest.arguments(
          options, kernel: kernel.image.path, initramfs: initramfs.path, disk: disk, ram: ram.path,
          console: console.path, name: name)
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      let errors = Pipe()
      process.standardError = errors
      try Spawner.shared.start(process)
      do {
        return try Machine(process, ram: ram, console: console, name: name, deadline: deadline)
      } catch {
        // Not by SIGTERM: that may be blocked in the thread that started QEMU, hence in QEMU.
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let complaint = String(decoding: errors.fileHandleForReading.availableData, as: UTF8.self)
        let said = String(decoding: console.contents(), as: UTF8.self)
        throw LabError(
          """
          the guest with kernel \(kernel.release) did not come up: \(error). \(complaint)
          The end of its console:
          \(said.suffix(2000))
          """,
          said.contains(panicEnd) ? .panic : (error as? LabError)?.reason)
      }
    }

    private init(
      _ process: Process, ram: GuestMemory, console: AnonymousFile, name: String, deadline: ContinuousClock.Instant
    ) throws {
      let monitor = try QMPConnection(AbstractSocket(name: name + "-qmp", deadline: min(deadline, .now + .seconds(15))))
      let socket = try AbstractSocket(name: name + "-agent", deadline: deadline)
      // What comes before may be noise from the port's set-up.
      while !(try Self.line(from: socket, console: console, deadline: deadline).ends(with: "ready")) {}
      agent = Agent(socket: socket)
      self.process = process
      self.name = name
      self.ram = ram
      self.console = console
      self.monitor = monitor
    }

    /// The next line; where the kernel has panicked there will be none, whatever the deadline.
    private static func line(
      from socket: AbstractSocket, console: AnonymousFile, deadline: ContinuousClock.Instant
    ) throws(LabError) -> [UInt8] {
      while true {
        let pause = min(deadline, .now + .seconds(2))
        do {
          return try socket.readLine(deadline: pause)
        } catch {
          let isOver = ContinuousClock.now < pause || pause >= deadline
          guard !isOver, !String(decoding: console.contents(), as: UTF8.self).contains(panicEnd) else { throw error }
        }
      }
    }

    /// Whether each CPU wakes what sleeps on it.
    mutating func timersRun(cpus: Int) -> Bool {
      let script = "for cpu in $(seq 0 \(cpus - 1)); do taskset -c $cpu sleep 0.02 || exit 1; done"
      return (try? agent.run(script, deadline: .now + .seconds(15)))?.status == 0
    }

    func end() {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
  }

  deinit { shutDown() }

  /// Ends QEMU at once and waits for it.
  ///
  /// A second call does nothing.
  public func shutDown() {
    process.withLock { process in
      if process.isRunning { kill(process.processIdentifier, SIGKILL) }
      process.waitUntilExit()
    }
  }

  private static func arguments(
    _ options: GuestOptions, kernel: String, initramfs: String, disk: String?, ram: String, console: String,
    name: String
  ) -> [String] {
    // noirqdebug: real-time kernels take the burst of serial interrupts for a stuck line and cut it off.
    var line = "console=ttyS0 quiet loglevel=6 noirqdebug"
    if options.paging == .fourLevel { line += " no5lvl" }
    if !options.commandLine.isEmpty { line += " " + options.commandLine }
    var devices: [String] = []
    if let network = options.network {
      // Cards on one cable need addresses of their own.
      let last = String(UInt8(network.address.split(separator: ".").last ?? "") ?? 0, radix: 16)
      devices += [
        "-netdev",
        "stream,id=cable,server=\(network.holdsCable ? "on" : "off"),addr.type=unix,addr.path=\(network.cable),addr.abstract=on",
        "-device", "virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:00:00:\(last.count == 1 ? "0" + last : last)",
      ]
    }
    if let disk {
      // What the guest writes goes to a file of QEMU's that has no name any more.
      devices += [
        "-drive", "id=disk,if=none,format=raw,snapshot=on,cache=unsafe,file=\(disk)",
        "-device", "virtio-blk-pci,drive=disk",
      ]
    }
    if let watched = options.watched {
      devices += [
        "-object", "memory-backend-file,id=watched,size=\(watched.size)M,mem-path=\(watched.path),share=on",
        "-device", "ivshmem-plain,memdev=watched",
      ]
    }
    return devices + [
      "-accel", "tcg,thread=multi", "-M", options.machine.rawValue, "-cpu", "max", "-smp", "\(options.cpus)", "-m",
      "\(options.memory)M",
      "-object", "memory-backend-file,id=ram,size=\(options.memory)M,mem-path=\(ram),share=on",
      "-numa", "node,memdev=ram", "-kernel", kernel, "-initrd", initramfs, "-append", line,
      "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-net", "none",
      "-chardev", "file,id=console,path=\(console)", "-serial", "chardev:console",
      "-chardev", "socket,id=agent,path=\(name)-agent,abstract=on,server=on,wait=off", "-serial", "chardev:agent",
      "-chardev", "socket,id=qmp,path=\(name)-qmp,abstract=on,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
      "-chardev", "socket,id=status,path=\(name)-status,abstract=on,server=on,wait=off", "-mon",
      "chardev=status,mode=control",
    ]
  }

  // MARK: Commands in the guest

  /// Runs a shell script in the guest.
  public func run(_ script: String, timeout: Duration = .seconds(60)) throws -> Output {
    let deadline = ContinuousClock.now + timeout
    return try agent.withLock { agent in
      do {
        return try agent.run(script, deadline: deadline)
      } catch {
        throw LabError(
          "the guest did not run '\(script.prefix(60))': \(error). The end of its console:\n\(lastWords)")
      }
    }
  }

  /// Sends a script without waiting for its answer, which never comes where it kills the guest.
  public func send(_ script: String) throws {
    try agent.withLock { try $0.write(script) }
  }

  /// What the guest printed on its console so far.
  public var console: String { String(decoding: consoleFile.contents(), as: UTF8.self) }

  /// The end of the console; of a kernel that has died, from where it says of what.
  private var lastWords: Substring {
    let console = console
    let cause = ["BUG: ", "Oops: ", "general protection fault", "Kernel panic"].compactMap {
      console.range(of: $0)?.lowerBound
    }
    return cause.min().map { console[$0...].prefix(5000) } ?? console.suffix(1000)
  }

  /// Waits until the console holds `text`.
  public func waitForConsole(_ text: String, timeout: Duration = .seconds(60)) throws {
    let deadline = ContinuousClock.now + timeout
    while !console.contains(text) {
      guard ContinuousClock.now < deadline else {
        throw LabError("the guest's console did not show '\(text)'. Its end:\n\(console.suffix(1000))")
      }
      usleep(50_000)
    }
  }

  /// Panics the guest's kernel and waits for its last words.
  public func panic() throws {
    try send("echo c > /proc/sysrq-trigger")
    try waitForConsole("end Kernel panic")
  }

  // MARK: The machine

  /// The formats in which QEMU writes a guest's memory.
  public enum DumpFormat: String, Sendable, CaseIterable {
    case elf
    case raw
  }

  /// Writes the guest's memory to a file, as QEMU does.
  ///
  /// The guest stands still meanwhile.
  ///
  /// - Throws: ``LabError`` if QEMU refuses, and for a raw image of a guest with RAM on both sides of the PCI hole: the
  ///   image would hold the devices' registers, and not all of the RAM.
  public func dump(to path: String, format: DumpFormat) throws {
    try monitor.withLock { monitor in
      switch format {
      case .elf: try monitor.execute("dump-guest-memory", ["paging": false, "protocol": "file:\(path)"])
      case .raw:
        guard options.memory < options.machine.splitMemory else {
          throw LabError("a guest of \(options.memory) MiB has RAM above the PCI hole: dump it as elf, not as raw")
        }
        try monitor.execute("pmemsave", ["val": 0, "size": options.memory << 20, "filename": path])
      }
    }
  }

  /// Hangs all CPUs of the guest for good, with interrupts off: its kernel's handler of timer interrupts becomes a loop
  /// of one instruction.
  ///
  /// - Returns: what ``endHang(_:)`` takes.
  public func hang() throws -> Hang {
    let symbol = "asm_sysvec_apic_timer_interrupt"
    let line = try run("grep ' \(symbol)$' /proc/kallsyms").text
    guard let address = line.split(separator: " ").first.flatMap({ UInt64($0, radix: 16) }), address != 0 else {
      throw LabError("the guest's kernel has no \(symbol)")
    }
    // jmp to itself.
    return Hang(address: address, bytes: try exchange([0xeb, 0xfe], at: address))
  }

  /// Where the guest's kernel was changed, and what stood there.
  public struct Hang: Sendable {
    fileprivate let address: UInt64
    fileprivate let bytes: [UInt8]
  }

  /// Undoes ``hang()``: each CPU goes on at the start of the handler in which it stands.
  public func endHang(_ hang: Hang) throws { _ = try exchange(hang.bytes, at: hang.address) }

  /// Replaces bytes of the guest's kernel and returns the old ones.
  private func exchange(_ bytes: [UInt8], at address: UInt64) throws -> [UInt8] {
    let name = "grass-debug-\(UUID().uuidString)"
    try human("gdbserver unix:\(name),abstract=on,server=on,wait=off")
    let debugger = DebugConnection(try AbstractSocket(name: name, deadline: .now + .seconds(10)))
    let old = try debugger.read(address, count: bytes.count)
    try debugger.write(bytes, at: address)
    try debugger.detach()
    try human("gdbserver none")
    return old
  }

  /// A command of QEMU's monitor for people.
  private func human(_ line: String) throws {
    try monitor.withLock { _ = try $0.execute("human-monitor-command", ["command-line": line]) }
  }

  /// Stops the guest's CPUs, or lets them run on.
  public func pause() throws { try monitor.withLock { _ = try $0.execute("stop", [:]) } }
  public func resume() throws { try monitor.withLock { _ = try $0.execute("cont", [:]) } }
  /// Whether its CPUs run: false where somebody stopped it.
  public func isRunning() throws -> Bool {
    try monitor.withLock { try $0.execute("query-status", [:])["running"] as? Bool ?? false }
  }
}

extension [UInt8] {
  fileprivate func ends(with text: String) -> Bool { suffix(text.utf8.count).elementsEqual(text.utf8) }
}
