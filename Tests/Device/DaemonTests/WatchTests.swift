import Devices
import Glibc
import LinuxKernel
import Memory
import Samples
import Synchronization
import Testing

@testable import Daemon

/// What a watch does as the memory of its host changes.
struct WatchTests {
  /// Memory of 8 MiB that tests exchange as a whole.
  private final class HostMemory: PhysicalMemory {
    private let state: Mutex<SyntheticMemory>

    init(_ memory: SyntheticMemory = SyntheticMemory([UInt8](repeating: 0, count: SyntheticKernel.size))) {
      state = Mutex(memory)
    }

    var segments: [MemorySegment] { state.withLock { $0.segments } }
    func read(_ batch: inout ReadBatch<PhysicalAddress>) { state.withLock { $0.read(&batch) } }
    func become(_ memory: SyntheticMemory) { state.withLock { $0 = memory } }
    func write(_ bytes: [UInt8], at offset: Int) {
      state.withLock { $0.write(bytes, at: PhysicalAddress(SyntheticKernel.physicalImage + UInt64(offset))) }
    }
  }

  /// A device that notes what it is told.
  private final class NotedDevice: Device {
    struct Told {
      var hints: [UInt64] = []
      var loaded: [[String]] = []
      var withdrawals = 0
      var segments: [[MemorySegment]] = []
    }

    private let told = Mutex(Told())
    var all: Told { told.withLock { $0 } }

    var description: String { "a device of tests" }
    func setKernelHint(_ address: PhysicalAddress) { told.withLock { $0.hints.append(address.rawValue) } }
    func load(_ program: MonitorProgram, for kernel: KernelMapping) throws(DeviceError) {
      told.withLock { $0.loaded.append(program.names) }
    }
    func withdrawMonitors() { told.withLock { $0.withdrawals += 1 } }
    func setSegments(_ segments: [MappedSegment]) { told.withLock { $0.segments.append(segments.map(\.segment)) } }
    func failure() -> DeviceError? { nil }
    func stop() {}
  }

  /// Monitors for every kernel but those that it refuses.
  private final class NotedMonitors: MonitorSource {
    var isEmpty = false
    var refused: String?
    var asked: [(release: String, isFresh: Bool)] = []

    func program(for kernel: Kernel, isFresh: Bool) throws -> MonitorProgram {
      asked.append((kernel.release, isFresh))
      if kernel.release == refused { throw ServerError.compiler("they do not fit") }
      let file = try File("// grass program 2\n// kernel \(kernel.release) \n// monitors ps\n// target sm_90\n")
      return try MonitorProgram(path: file.path)
    }
  }

  private final class File {
    let path: String

    init(_ text: String = "") throws {
      var template = Array("/tmp/grass-watch-XXXXXX".utf8CString)
      let descriptor = mkstemp(&template)
      try #require(descriptor >= 0)
      path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
      close(descriptor)
      try write(Array(text.utf8), at: 0)
    }

    func write(_ bytes: [UInt8], at offset: Int) throws {
      let descriptor = open(path, O_WRONLY)
      defer { close(descriptor) }
      try #require(pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count)
    }

    deinit { unlink(path) }
  }

  /// A watch of `memory`, its device, and what it reports.
  private final class Trial {
    let device = NotedDevice()
    let monitors = NotedMonitors()
    private(set) var events: [Watch.Event] = []
    private(set) lazy var watch = Watch(layouts: layouts, monitors: monitors) { [unowned self] in events.append($0) }
    private let layouts: [any PhysicalMemory]
    private var now = ContinuousClock.now

    init(_ layouts: [any PhysicalMemory]) { self.layouts = layouts }

    func begin() {
      watch.begin()
      watch.attach(device, program: nil)
      now = .now
    }

    /// What a look reports that comes `seconds` later than the one before.
    func look(after seconds: Double = 40) -> [Watch.Event] {
      events = []
      now += .seconds(seconds)
      watch.look(at: now)
      return events
    }
  }

  private static let first = SyntheticKernel(symbols: [("jiffies_64", 0x4_0200), ("init_task", 0x4_0300)])
  private static let second = SyntheticKernel(release: "6.12.0-other-amd64", note: 0x40_0000)
  private static func found(_ kernel: SyntheticKernel) -> Watch.Event {
    .kernelFound(release: kernel.release, place: PhysicalAddress(kernel.note))
  }
  private static let lost = Watch.Event.kernelLost(release: first.release)

  @Test func kernelThatAppearsLater() {
    let memory = HostMemory()
    let trial = Trial([memory])
    trial.begin()
    #expect(trial.events == [] && trial.watch.kernel == nil)
    #expect(trial.look() == [])
    memory.become(Self.first.memory)
    // A search in vain was a moment ago.
    #expect(trial.look(after: 0.25) == [])
    #expect(trial.look(after: 30) == [Self.found(Self.first), .monitorsLoaded(["ps"])])
    #expect(trial.device.all.hints == [Self.first.note] && trial.device.all.segments.isEmpty)
    #expect(trial.look() == [])
  }

  @Test func kernelThatIsThereFromTheStart() {
    let trial = Trial([HostMemory(Self.first.memory)])
    trial.watch.begin()
    #expect(trial.watch.kernel?.release == Self.first.release)
    trial.watch.attach(trial.device, program: ["life"])
    #expect(trial.events == [Self.found(Self.first), .monitorsLoaded(["life"])])
    // The device was started with them.
    #expect(trial.device.all.loaded.isEmpty && trial.monitors.asked.isEmpty)
  }

  @Test func rebootIntoAnotherBuild() {
    let memory = HostMemory(Self.first.memory)
    let trial = Trial([memory])
    trial.begin()
    #expect(trial.events == [Self.found(Self.first), .monitorsLoaded(["ps"])])
    memory.become(SyntheticMemory([UInt8](repeating: 0, count: SyntheticKernel.size)))
    #expect(trial.look(after: 30) == [Self.lost])
    #expect(trial.device.all.hints == [Self.first.note, 0] && trial.device.all.withdrawals == 1)
    #expect(trial.look() == [])
    memory.become(Self.second.memory)
    #expect(trial.look() == [Self.found(Self.second), .monitorsLoaded(["ps"])])
    #expect(trial.device.all.hints.last == Self.second.note)
    #expect(trial.monitors.asked.map(\.release) == [Self.first.release, Self.second.release])
    #expect(trial.monitors.asked.map(\.isFresh) == [true, false])
  }

  /// Nobody looked while the host was down: one look sees that one is gone, and finds the other.
  @Test func rebootBetweenTwoLooks() {
    let memory = HostMemory(Self.first.memory)
    let trial = Trial([memory])
    trial.begin()
    memory.become(Self.second.memory)
    #expect(trial.look() == [Self.lost, Self.found(Self.second), .monitorsLoaded(["ps"])])
  }

  /// The same build at the same place: only what each boot makes anew is another.
  @Test func rebootIntoTheSameBuild() throws {
    let memory = HostMemory(Self.first.memory)
    memory.write(bytes(UInt64(5000)), at: 0x4_0200)
    let trial = Trial([memory])
    trial.begin()
    for ticks: UInt64 in [5000, 5001, 1 << 40] {
      memory.write(bytes(ticks), at: 0x4_0200)
      // What runs changes, too.
      memory.write(bytes(ticks), at: 0x4_0300)
      #expect(trial.look() == [])
    }
    memory.write(bytes(UInt64(12)), at: 0x4_0200)
    #expect(trial.look() == [Self.lost, Self.found(Self.first), .monitorsLoaded(["ps"])])
  }

  @Test func guardOfTheFirstTasksStack() {
    var types = BTFWriter()
    let long = types.integer("long unsigned int", size: 8, signed: false)
    _ = types.structure("task_struct", size: 64, [.init(name: "stack_canary", type: long, offset: 128)])
    let memory = HostMemory(SyntheticKernel(types: types.bytes, symbols: [("init_task", 0x4_0300)]).memory)
    memory.write(bytes(0x1234_5678_9abc_de00 as UInt64), at: 0x4_0310)
    let trial = Trial([memory])
    trial.begin()
    #expect(trial.look() == [])
    memory.write(bytes(0x1234_5678_9abc_df00 as UInt64), at: 0x4_0310)
    #expect(trial.look().first == Self.lost)
  }

  /// Who alters what kernels are known by hides nothing: the host has not rebooted, and is watched on.
  @Test func anAlteredIdentityIsNoReboot() throws {
    var types = BTFWriter()
    let long = types.integer("long unsigned int", size: 8, signed: false)
    _ = types.structure("task_struct", size: 64, [.init(name: "stack_canary", type: long, offset: 128)])
    let memory = HostMemory(
      SyntheticKernel(types: types.bytes, symbols: [("init_task", 0x4_0300), ("jiffies_64", 0x4_0200)]).memory)
    memory.write(bytes(0x1234_5678_9abc_de00 as UInt64), at: 0x4_0310)
    memory.write(bytes(1000 as UInt64), at: 0x4_0200)
    let trial = Trial([memory])
    trial.begin()
    let kernel = try #require(trial.watch.kernel)
    memory.write(Array("Linux version 9".utf8), at: SyntheticKernel.data)
    #expect(trial.look() == [.identityAltered(["linux_banner"])])
    memory.write(bytes(1001 as UInt64), at: 0x4_0200)
    // Said once.
    #expect(trial.look() == [] && trial.watch.kernel === kernel && trial.device.all.withdrawals == 0)
    // Ticks that go back are those of another boot, whatever else is as it was.
    memory.write(bytes(5 as UInt64), at: 0x4_0200)
    #expect(trial.look().first == Self.lost)
  }

  @Test func monitorsThatDoNotFit() {
    let memory = HostMemory(Self.first.memory)
    let trial = Trial([memory])
    trial.monitors.refused = Self.second.release
    trial.begin()
    memory.become(Self.second.memory)
    let events = trial.look()
    #expect(events.count == 3 && events[0] == Self.lost && events[1] == Self.found(Self.second))
    #expect(events.last == .monitorsFailed("the monitors were not compiled: they do not fit"))
    #expect(trial.device.all.withdrawals == 1 && trial.device.all.loaded.count == 1)
    // They are mended, and read again.
    trial.monitors.refused = nil
    trial.watch.reload()
    #expect(trial.events.last == .monitorsLoaded(["ps"]) && trial.monitors.asked.last?.isFresh == true)
  }

  @Test func reloadOfNothing() {
    let trial = Trial([HostMemory()])
    trial.begin()
    trial.watch.reload()
    #expect(trial.events == [.nothingToReload])
    let other = Trial([HostMemory(Self.first.memory)])
    other.monitors.isEmpty = true
    other.begin()
    other.watch.reload()
    #expect(other.events == [Self.found(Self.first), .nothingToReload] && other.monitors.asked.isEmpty)
  }

  /// A raw file of 3.5 GiB is laid out in one of three ways: the kernel's own end of memory says which, whenever it comes.
  @Test(
    arguments: [
      (0x16_0000, "split at 2 GiB as QEMU's q35"), (0x12_0000, "split at 3 GiB as QEMU's pc"),
      (0xe_0000, "in one piece"),
    ] as [(UInt64, String)])
  func layoutIsDecidedWhenTheKernelIsFound(frames: UInt64, layout: String) throws {
    let file = try File()
    #expect(truncate(file.path, 0xe000_0000) == 0)
    let layouts = try MemoryImage.open(file.path)
    #expect(layouts.count == 3)
    let trial = Trial(layouts)
    trial.begin()
    #expect(trial.watch.kernel == nil && (trial.watch.memory as? FileMemory) === layouts[0])
    let kernel = SyntheticKernel(symbols: [("max_pfn", 0x4_0200)])
    try file.write(try kernel.memory.read(PhysicalAddress(0), count: SyntheticKernel.size), at: 0)
    try file.write(bytes(frames), at: Int(SyntheticKernel.physicalImage) + 0x4_0200)
    let events = trial.look()
    #expect(events.contains(Self.found(kernel)))
    let right = try #require(layouts.first { $0.format == "raw memory, \(layout)" })
    #expect((trial.watch.memory as? FileMemory)?.format == right.format)
    #expect(trial.device.all.segments == (right === layouts[0] ? [] : [right.segments]))
    #expect(events.contains(.layout(right.format)) == (right !== layouts[0]))
    // It was cut: nothing more is done, and said once.
    #expect(truncate(file.path, 1 << 20) == 0)
    #expect(trial.look() == [.memoryCut])
    #expect(trial.look() == [])
  }
}
