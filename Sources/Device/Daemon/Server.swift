import CRegion
import CUDA
import Detection
public import Devices
import Glibc
public import Keys
public import Links
public import LinuxKernel
import Memory
public import Region

/// The watched side, whole: the memory, the region, the device, the links, and the watch that keeps them with the kernel.
public final class Server {
  /// What to watch, and how to serve it.
  public struct Options: Sendable {
    /// The path of the watched memory.
    public var memory: String
    public var listen: [LinkAddress]
    public var layout: RegionLayout
    public var regionInGPU: Bool
    public var device: DeviceName
    /// The paths of monitors: sources, or one program.
    public var monitors: [String]
    /// Where builds are kept that were proven; nil keeps none.
    public var known: BuildFolder?
    /// How often the detectors that come with GRASS look; nil where they do not.
    public var detectorPeriod: Duration?
    /// How often all detectors of a check look, too, in a process beside this one; nil where they do not.
    public var checkPeriod: Duration?
    /// Files of what these leave out and of what they compare the host with, as ``Looker`` takes them; nil where there are none.
    public var rules: String?
    public var baseline: String?
    /// Whom it lets in; nil where all who reach an address of this machine may ask.
    public var keys: Keys?
    /// The socket at which the guest's QEMU says by QMP whether it runs it; nil where it is not asked.
    public var hypervisor: String?
    /// Whether sessions with the right `acquire` may read the memory past the device, in clear.
    public var isMemoryOpen: Bool

    public init(
      memory: String, listen: [LinkAddress], layout: RegionLayout, regionInGPU: Bool = false, device: DeviceName = .cpu,
      monitors: [String] = [], known: BuildFolder? = nil, detectorPeriod: Duration? = nil, checkPeriod: Duration? = nil,
      rules: String? = nil, baseline: String? = nil, keys: Keys? = nil, hypervisor: String? = nil,
      isMemoryOpen: Bool = false
    ) {
      self.memory = memory
      self.listen = listen
      self.layout = layout
      self.regionInGPU = regionInGPU
      self.device = device
      self.monitors = monitors
      self.known = known
      self.detectorPeriod = detectorPeriod
      self.checkPeriod = checkPeriod
      self.rules = rules
      self.baseline = baseline
      self.keys = keys
      self.hypervisor = hypervisor
      self.isMemoryOpen = isMemoryOpen
    }

    /// How often a check looks unless somebody says otherwise, where a device looks at another machine's memory.
    public static let usualCheckPeriod = Duration.seconds(30)
  }

  /// Whom a server lets in, and by what it is known.
  public struct Keys: Sendable {
    /// The path of the list of keys.
    public var authorized: String
    /// Whether it is read again when it changes.
    ///
    /// Without, the list changes only by requests of admin keys.
    public var followsFile: Bool
    /// The path of the device's own key; nil for one that was handed over as a credential, or is made at each start.
    public var identity: String?
    /// The path of what certifies it.
    public var certificate: String?

    public init(authorized: String, followsFile: Bool = false, identity: String? = nil, certificate: String? = nil) {
      self.authorized = authorized
      self.followsFile = followsFile
      self.identity = identity
      self.certificate = certificate
    }
  }

  /// The device's own public key, where sessions need keys.
  public let publicKey: PublicKey?
  /// Where remote hosts reach it, ports that were chosen filled in.
  public let addresses: [LinkAddress]
  /// What it watches and what runs the monitor, for people.
  public var description: String { "\(path): \(memory.format), on \(device.description), the region in \(place.name)" }

  private let path: String
  private let memory: FileMemory
  private let place: Place
  private let device: any Device
  private let watch: Watch
  private let lookout: Lookout?
  private let doorkeeper: Doorkeeper?
  private let hypervisor: Hypervisor?
  private let responders: [any Responder]

  /// Opens the memory, looks for a kernel in it, and begins to serve.
  ///
  /// `report` is called with what happens, from here on and by ``look()`` and ``reload()``.
  ///
  /// - Throws: what the memory, the device, the region or the links throw, or ``ServerError``.
  public init(_ options: Options, report: @escaping (ServerEvent) -> Void) throws {
    path = options.memory
    let layouts = try MemoryImage.open(options.memory)
    guard let first = layouts.first else { throw ServerError.noMemory(options.memory) }
    let monitors = MonitorFiles(
      options.monitors, for: options.device, known: options.known, hasDetectors: options.detectorPeriod != nil,
      hasKeys: options.keys != nil)
    let told = Told()
    watch = Watch(layouts: layouts, known: options.known, monitors: monitors) { event in
      report(ServerEvent(event, path: options.memory))
      switch event {
      case .kernelFound: told.lookout?.begin()
      case .kernelLost: told.lookout?.end()
      case .memoryCut: told.lookout?.loseMemory()
      default: break
      }
    }
    watch.begin()
    memory = watch.kernel?.memory as? FileMemory ?? first

    if case .gpu = options.device {
      GPU.allowHostMemory(beyondReported: memory.segments.reduce(0) { $0 + $1.count })
    }
    let place = try Place(options)
    self.place = place
    doorkeeper = try options.keys.map { try Doorkeeper($0, report: report) }
    let program: MonitorProgram?
    (device, program) = try Self.device(options, place, memory, watch.kernel, monitors, doorkeeper)
    publicKey = try device.publicKey.map { key throws(KeyError) in try PublicKey(bytes: key) }
    if let period = options.checkPeriod {
      // Files that cannot be used are refused now, not by who looks later.
      _ = try options.rules.map { path throws(DetectionFileError) in try Allowance.rules(file: path) }
      _ = try options.baseline.flatMap { path throws(DetectionFileError) in
        access(path, F_OK) == 0 ? try Baseline(file: path) : nil
      }
      lookout = Lookout(
        try Compiler.looker(
          memory: options.memory, known: options.known, rules: options.rules, baseline: options.baseline),
        region: place.region, device: device, period: period, report: report)
    } else {
      lookout = nil
    }
    told.lookout = lookout
    watch.attach(device, program: program?.names)
    hypervisor = try options.hypervisor.map { path throws(ServerError) in try Hypervisor(path: path) }
    // Whoever connects first is told at once that it can be asked.
    if let hypervisor { device.setHypervisor(hypervisor.state) }

    var responders: [any Responder] = []
    let monitor = device
    let keyed = options.keys != nil
    if options.isMemoryOpen, !device.openMemory() { throw ServerError.closedMemory }
    let open = options.isMemoryOpen ? Self.openSegments(of: memory) : []
    addresses = try options.listen.map { address in
      let keeper = DeviceSlots(device: monitor, isKeyed: keyed, openMemory: open)
      guard let responder = try address.serve(place.region, keeper: keeper) else { return address }
      responders.append(responder)
      return responder.address
    }
    self.responders = responders
  }

  /// Does what is due; to be called every ``interval``.
  ///
  /// - Throws: ``DeviceError`` where the device has ended by itself.
  public func look() throws(DeviceError) {
    if let failure = device.failure() { throw failure }
    if let hypervisor {
      device.setHypervisor(hypervisor.state)
      hypervisor.setPaused(device.wantsPause)
    }
    watch.look()
    doorkeeper?.look(device)
    lookout?.step()
  }

  /// How often ``look()`` is to be called.
  public static var interval: Duration { Watch.interval }

  /// Reads the monitors again; what is wrong with them is reported.
  public func reload() {
    watch.reload()
    lookout?.reload()
  }

  /// Ends the links, then the device; the region goes with this object.
  public func stop() {
    lookout?.end()
    for responder in responders { responder.stop() }
    hypervisor?.stop()
    device.stop()
  }

  // MARK: Parts

  /// The device as those see it who lend its slots.
  private struct DeviceSlots: SlotKeeper {
    let device: any Device
    let isKeyed: Bool
    let openMemory: [OpenSegment]

    func assist() { device.assist() }
    func release(_ slots: Range<Int>) {
      device.release(slots)
      if !openMemory.isEmpty { device.setWindows(nil, for: slots.lowerBound) }
    }
    func wantsWindows(_ slots: Range<Int>) -> Bool { device.wantsWindows(slots.lowerBound) }
    func setWindows(_ windows: [RemotePart]?, _ slots: Range<Int>) {
      device.setWindows(windows?.map(grass_memory_window.init), for: slots.lowerBound)
    }
  }

  /// Who is told of kernels that come and go, once there is one.
  private final class Told {
    var lookout: Lookout?
  }

  /// The region, and the GPU that it lies in or is served by.
  private struct Place {
    let region: SharedRegion
    let context: GPUContext?
    let name: String

    init(_ options: Options) throws {
      let files = options.listen.filter { $0.kind.regionPath != nil }
      let paths = files.compactMap(\.kind.regionPath)
      guard paths.count <= 1 else { throw ServerError.manyRegions(files[1]) }
      if case .gpu = options.device, options.layout.slotCount > RegionLayout.mostSlotsOfGPU {
        throw ServerError.tooManySlots(options.layout.slotCount)
      }
      context = if case .gpu(let number) = options.device { try GPUContext(GPU.number(number)) } else { nil }
      guard options.regionInGPU else {
        region = try SharedRegion(path: paths.first, layout: options.layout)
        name = "host memory"
        return
      }
      guard let context else { throw ServerError.regionWithoutGPU }
      if let file = files.first { throw ServerError.regionWithoutFile(file) }
      let memory = try GPURegionMemory(context, layout: options.layout)
      region = try SharedRegion(layout: options.layout, in: memory)
      name =
        "the GPU's own memory, " + (memory.exportFailure.map { "not exported: \($0)" } ?? "exported as a dma-buf")
    }
  }

  /// The device, and the program that it was started with: a GPU cannot do without one.
  private static func device(
    _ options: Options, _ place: Place, _ memory: FileMemory, _ kernel: Kernel?, _ monitors: MonitorFiles,
    _ doorkeeper: Doorkeeper?
  ) throws -> (any Device, MonitorProgram?) {
    guard let context = place.context else {
      let keyring = try doorkeeper?.keyring(for: place.region.layout)
      let device = try CPUDevice(
        region: place.region, segments: memory.mappedSegments, owner: memory,
        period: options.detectorPeriod ?? .seconds(1), keyring: keyring)
      guard let kernel, !monitors.isEmpty else { return (device, nil) }
      // Monitors that are wrong from the start end the daemon before it serves.
      let program = try monitors.program(for: kernel, isFresh: true)
      try device.load(program, for: KernelMapping(kernel.addressSpace, slide: kernel.found.slide))
      return (device, program)
    }
    guard let kernel else { throw ServerError.noKernel(options.memory) }
    let program = try monitors.program(for: kernel, isFresh: true)
    let device = try GPUDevice(
      context, region: place.region, segments: memory.mappedSegments, owner: memory, program: program,
      kernel: KernelMapping(kernel.addressSpace, slide: kernel.found.slide),
      period: options.detectorPeriod ?? .milliseconds(100), keys: try doorkeeper?.keysOfGPU())
    return (device, program)
  }
}

extension Server {
  /// None of what a driver shows: its pages cannot be pinned, and reading them as they come may end the host.
  private static func openSegments(of memory: FileMemory) -> [OpenSegment] {
    guard !memory.isDriver else { return [] }
    let pinnable = memory.mapForDevices()
    return memory.mappedSegments.enumerated().compactMap { index, mapped in
      guard let count = Int(exactly: mapped.segment.count) else { return nil }
      return OpenSegment(
        start: mapped.segment.start.rawValue, bytes: UnsafeRawBufferPointer(start: mapped.bytes, count: count),
        lost: mapped.lost, pinnable: index < pinnable.count ? pinnable[index] : nil)
    }
  }
}

extension grass_memory_window {
  fileprivate init(_ part: RemotePart) {
    self.init(
      start: UInt64(part.range.lowerBound), count: UInt64(part.range.count), high: part.token.high, low: part.token.low)
  }
}
