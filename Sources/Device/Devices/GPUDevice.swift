import CMailbox
public import CRegion
import CRuntime
public import CUDA
import Glibc
import Host
public import Memory
public import Region
import Synchronization

/// A GPU that runs the mailbox: a program launched once, which polls the region and reads the watched memory over PCIe
/// as long as the machine has power, whatever becomes of its kernel.
///
/// The watched memory is mapped so that the GPU cannot write it. The region lies in host memory, or in the GPU's own.
public final class GPUDevice: Device, @unchecked Sendable {
  // Its owner calls load and stop, one at a time; `control` is read by the GPU word by word.
  public let gpu: GPU
  private let region: SharedRegion
  private let owner: AnyObject?
  private let context: GPUContext
  private let control: PinnedPages
  private var parts: Parts?
  private var isRunning = false
  /// What runs, to go back to where a new program cannot be started.
  private var current: (MonitorProgram, KernelMapping)?
  /// Whether its kernel is gone: what its detectors remember is of a boot that is over.
  private var isWithdrawn = false
  /// Of a region with keys: how this machine and the program talk.
  private let door: GPUDoor?
  /// Whether there is a program, or will be again.
  private let isServed = ServedFlag()

  private final class ServedFlag: Sendable {
    let value = Atomic<Bool>(true)
  }

  /// All that lives on the GPU, or is mapped into it, in the order in which it is taken down.
  private struct Parts: ~Copyable {
    var program: GPUProgram
    let stream: GPUStream
    let state: GPUMemory
    let segments: GPUMemory
    var names: GPUMemory
    let scratch: GPUMemory
    let response: GPUMemory
    let output: GPUMemory
    let places: GPUMemory
    let items: GPUMemory
    let detectors: GPUMemory
    let keys: GPUMemory
    let regionView: RegisteredMemory
    let memoryViews: MemoryViews
  }

  /// Registrations of the watched memory, one a segment.
  private final class MemoryViews {
    // RegisteredMemory cannot be in an array.
    let view: RegisteredMemory
    let next: MemoryViews?

    init(_ view: consuming RegisteredMemory, next: MemoryViews?) {
      self.view = view
      self.next = next
    }
  }

  /// Steps that a lane may take: seconds, where each waits for the bus.
  private static let mostBudget: UInt64 = 1 << 20
  private static let threads = Int(GRASS_GPU_THREADS)
  /// How long the resident program may take to end: a run's budget, generously.
  private static let patience: UInt64 = 60_000_000_000

  /// Maps the memory, proves that the GPU sees what changes in it, and starts the resident program with its monitors.
  ///
  /// Cost: seconds, most of them the driver's compiler, and 50 ms a GiB of watched memory.
  ///
  /// - Parameters:
  ///   - context: the GPU.
  ///   - region: where it answers. Kept until it has stopped.
  ///   - watched: the watched memory, without overlap, in whole pages.
  ///   - owner: whatever must live for the segments' pointers to be valid.
  ///   - program: the resident program, with monitors that fit `kernel`.
  ///   - kernel: how the watched kernel maps its memory.
  ///   - period: how often detectors look.
  ///   - keys: whom it lets in, where the region is one with keys.
  /// - Throws: ``DeviceError`` where the GPU cannot map the memory, does not see what changes in it, or refuses the
  ///   program.
  public init(
    _ context: GPUContext, region: SharedRegion, segments watched: [MappedSegment], owner: AnyObject?,
    program: MonitorProgram, kernel: KernelMapping, period: Duration = .milliseconds(100),
    keys: GPUKeys? = nil
  ) throws(DeviceError) {
    precondition(region.layout.hasKeys == (keys != nil), "a region with keys and a device without them, or otherwise")
    gpu = context.gpu
    self.period = period
    self.context = context
    self.region = region
    self.owner = owner
    do throws(CUDAError) {
      guard gpu.mapsHostMemory else { throw CUDAError(.program("\(gpu.name) cannot map host memory")) }
      control = try PinnedPages(context)
      door = try keys.map { keys throws(CUDAError) in try GPUDoor(context, keys) }
    } catch {
      throw DeviceError(.gpu("\(error)"))
    }
    // Empty where the region is not host memory.
    let hostRegion =
      region.device == nil
      ? UnsafeRawBufferPointer(start: region.base, count: region.layout.regionSize)
      : UnsafeRawBufferPointer(start: nil, count: 0)
    if let memory = region.device, (memory as? GPURegionMemory)?.context !== context {
      throw DeviceError(.regionElsewhere)
    }
    let regionView: RegisteredMemory
    do throws(CUDAError) {
      regionView = try RegisteredMemory(context, hostRegion, isReadOnly: false)
    } catch {
      throw DeviceError(.unpinnableRegion(region.path ?? "(anonymous)", "\(error)"))
    }
    let code = try Self.code(program, for: gpu, in: context, hasKeys: keys != nil)
    do throws(CUDAError) {
      parts = try makeParts(
        code, names: program, regionView: regionView, watched: watched.sorted { $0.segment.start < $1.segment.start })
    } catch {
      throw DeviceError(.gpu("\(error)"))
    }
    try proveFreshView()
    try start(program, kernel: kernel, isFirst: true)
    current = (program, kernel)
    try awaitBeacon()
  }

  /// Waits until the resident program lights the beacon, by which remote hosts know that somebody polls.
  private func awaitBeacon() throws(DeviceError) {
    let deadline = SystemCall.monotonicNanoseconds() + Self.patience
    while try onRegion({ region throws(RegionError) in try region.word(at: region.layout.beaconOffset) }) == 0 {
      if let failure = failure() { throw failure }
      guard SystemCall.monotonicNanoseconds() < deadline else {
        throw DeviceError(.gpu("the resident program does not begin"))
      }
      SystemCall.sleep(nanoseconds: 100_000)
    }
    try tellTime()
  }

  /// Waits until the resident program has taken its keys, and wiped what it took.
  private func awaitKeys() throws(DeviceError) {
    guard let door else { return }
    let deadline = SystemCall.monotonicNanoseconds() + Self.patience
    while !door.isTaken {
      if let failure = failure() { throw failure }
      guard SystemCall.monotonicNanoseconds() < deadline else {
        throw DeviceError(.gpu("the resident program does not take its keys"))
      }
      SystemCall.sleep(nanoseconds: 100_000)
    }
  }

  /// Tells the GPU what time it is: its own clock, which the beacon has, begins anywhere.
  private func tellTime() throws(DeviceError) {
    let clock = try onRegion { region throws(RegionError) in
      try region.word(
        at: region.layout.beaconOffset + (MemoryLayout<grass_beacon>.offset(of: \.clock) ?? 0))
    }
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let utc = UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    grass_store(control.base + (MemoryLayout<grass_gpu_control>.offset(of: \.utc_offset) ?? 0), utc &- clock)
  }

  private func onRegion<Result>(_ body: (SharedRegion) throws(RegionError) -> Result) throws(DeviceError) -> Result {
    do throws(RegionError) { return try body(region) } catch { throw DeviceError(.gpu("\(error)")) }
  }

  deinit { stop() }

  public var description: String { "GPU \(gpu.number), \(gpu.name) at \(gpu.busID)" }

  public func setKernelHint(_ address: PhysicalAddress) {
    grass_store(control.base + (MemoryLayout<grass_gpu_control>.offset(of: \.kernel_hint) ?? 0), address.rawValue)
  }

  public func hand(_ finding: grass_finding_content) -> Bool {
    guard isRunning, current?.0.detectorNumbers.isEmpty == false else { return false }
    var finding = finding
    return grass_inbox_put((control.base + control.inbox).assumingMemoryBound(to: grass_inbox.self), &finding)
  }

  public func setSuspended(_ count: Int) {
    grass_store(
      control.base + control.inbox + (MemoryLayout<grass_inbox>.offset(of: \.suspended) ?? 0), UInt64(max(0, count)))
  }

  public func withdrawMonitors() { isWithdrawn = true }

  public func setHypervisor(_ state: HypervisorState) {
    grass_store(control.base + (MemoryLayout<grass_gpu_control>.offset(of: \.hypervisor) ?? 0), state.raw)
  }

  public func load(_ program: MonitorProgram, for kernel: KernelMapping) throws(DeviceError) {
    guard isRunning else { return }
    // Compiled while the old one goes on; then the region is nobody's for some milliseconds.
    let code = try Self.code(program, for: gpu, in: context, hasKeys: door != nil)
    try door?.handOver()
    do throws(DeviceError) {
      try end(GRASS_GPU_HAND_OVER)
    } catch {
      door?.takeBack()
      throw error
    }
    do throws(DeviceError) {
      try exchange(code, program)
      try start(program, kernel: kernel, isFirst: false)
      current = (program, kernel)
    } catch {
      // The old one goes on.
      try door?.handOver()
      if let (program, kernel) = current { try start(program, kernel: kernel, isFirst: false) }
      throw error
    }
  }

  private func exchange(_ code: GPUCode, _ program: MonitorProgram) throws(DeviceError) {
    try Self.onGPU { () throws(CUDAError) in
      guard var parts = parts.take() else { return }
      do throws(CUDAError) {
        let names = try Self.names(program, in: context)
        parts.program = try GPUProgram(context, code)
        parts.names = consume names
      } catch {
        self.parts = consume parts
        throw error
      }
      self.parts = consume parts
    }
  }

  public func failure() -> DeviceError? {
    guard isRunning else { return nil }
    do throws(CUDAError) {
      return try isIdle() ? DeviceError(.gpu("the resident program has ended by itself")) : nil
    } catch {
      return DeviceError(.gpu("the resident program failed: \(error)"))
    }
  }

  public var publicKey: [UInt8]? { door?.publicKey }
  public func takeKeyEvent() -> KeyEvent? { door?.takeEvent() }
  public func newestFinding() -> UInt64? { door?.newestFinding }

  public func release(_ slots: Range<Int>) {
    door?.release(slots) { isServed.value.load(ordering: .acquiring) }
  }

  public func setKeys(_ lines: [grass_key_line]) {
    door?.setKeys(lines) { isServed.value.load(ordering: .acquiring) && failure() == nil }
  }

  public func groupKeys() -> [UInt64: [UInt8]] {
    guard door != nil else { return [:] }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: MemoryLayout<grass_group>.size, alignment: 8)
    defer {
      if let base = bytes.baseAddress { explicit_bzero(base, bytes.count) }
      bytes.deallocate()
    }
    do throws(CUDAError) {
      let offset = MemoryLayout<grass_gpu_keys>.offset(of: \.group) ?? 0
      guard try withParts({ parts throws(CUDAError) in try parts.keys.load(into: bytes, at: offset) }) != nil,
        let base = bytes.baseAddress
      else { return [:] }
      return Keyring.groupKeys(base)
    } catch {
      // A GPU that cannot be copied from is a failure that is looked for elsewhere.
      return [:]
    }
  }

  public func stop() {
    isServed.value.store(false, ordering: .releasing)
    door?.takeBack()
    try? end(GRASS_GPU_STOP)
    if !isRunning { parts = nil }
  }

  // MARK: The resident program

  private static func onGPU<Result>(_ body: () throws(CUDAError) -> Result) throws(DeviceError) -> Result {
    do throws(CUDAError) { return try body() } catch { throw DeviceError(.gpu("\(error)")) }
  }

  private static func code(
    _ program: MonitorProgram, for gpu: GPU, in context: GPUContext, hasKeys: Bool
  ) throws(DeviceError) -> GPUCode {
    guard case .gpu(let ptx, let capability) = program.code else {
      throw DeviceError(.wrongTarget("it is a processor's, this device is a GPU of sm_\(gpu.capability)"))
    }
    guard capability <= gpu.capability else {
      throw DeviceError(.wrongTarget("it is for sm_\(capability) on, \(gpu.name) has sm_\(gpu.capability)"))
    }
    guard program.hasKeys == hasKeys else {
      throw DeviceError(
        .wrongTarget(
          hasKeys
            ? "the region is one with keys, and it is for regions without (--keys makes one)"
            : "it is for regions with keys, and this one has none"))
    }
    return try onGPU { () throws(CUDAError) in try GPUCode(context, ptx: ptx) }
  }

  private static func names(_ program: MonitorProgram, in context: GPUContext) throws(CUDAError) -> GPUMemory {
    let answers = program.answers
    let names = try GPUMemory(context, count: answers.count * MemoryLayout<grass_monitor_answer>.stride)
    try store(answers, in: names)
    return names
  }

  /// `withUnsafeBytes` does not pass typed errors on.
  private static func store<Element>(_ elements: [Element], in memory: borrowing GPUMemory) throws(CUDAError) {
    let bytes = UnsafeMutableBufferPointer<Element>.allocate(capacity: max(1, elements.count))
    defer { bytes.deallocate() }
    _ = bytes.initialize(from: elements)
    try memory.store(
      UnsafeRawBufferPointer(
        rebasing: UnsafeRawBufferPointer(bytes).prefix(elements.count * MemoryLayout<Element>.stride)))
  }

  private func makeParts(
    _ code: GPUCode, names program: MonitorProgram, regionView: consuming RegisteredMemory, watched: [MappedSegment]
  ) throws(CUDAError) -> Parts {
    var views: MemoryViews?
    var segments: [grass_mapped_segment] = []
    let page = 4096
    for segment in watched {
      let count = Int(segment.segment.count)
      guard Int(bitPattern: segment.bytes) % page == 0, count % page == 0 else {
        throw CUDAError(.program("\(DeviceError(.notInPages))"))
      }
      let view = try RegisteredMemory(
        context, UnsafeRawBufferPointer(start: segment.bytes, count: count), isReadOnly: gpu.mapsReadOnly,
        isDriver: segment.isDriver)
      var start = segment.segment.start.rawValue
      for part in view.parts {
        if let last = segments.last, last.segment.start + last.segment.count == start,
          last.bytes.map({ UInt64(UInt(bitPattern: $0)) + last.segment.count }) == part.device
        {
          segments[segments.count - 1].segment.count += UInt64(part.count)
        } else {
          segments.append(
            grass_mapped_segment(
              segment: grass_segment(start: start, count: UInt64(part.count)),
              bytes: UnsafePointer(bitPattern: UInt(part.device)), lost: nil))
        }
        start += UInt64(part.count)
      }
      views = MemoryViews(view, next: views)
    }
    guard let views else { throw CUDAError(.program("there is no memory to watch")) }
    let segmentMemory = try GPUMemory(context, count: segments.count * MemoryLayout<grass_mapped_segment>.stride)
    try Self.store(segments, in: segmentMemory)
    segmentCount = segments.count
    machine = watched.contains(where: \.isDriver) ? segments : nil
    return Parts(
      program: try GPUProgram(context, code), stream: try GPUStream(context),
      state: try GPUMemory(context, count: MemoryLayout<grass_gpu>.stride), segments: segmentMemory,
      names: try Self.names(program, in: context),
      scratch: try GPUMemory(context, count: region.layout.requestSize),
      response: try GPUMemory(context, count: region.layout.responseSize),
      output: try GPUMemory(context, count: region.layout.responseSize),
      places: try GPUMemory(
        context,
        count: (region.layout.requestSize / MemoryLayout<grass_range>.size + 1) * MemoryLayout<grass_place>.stride),
      items: try GPUMemory(context, count: 2 * Self.mostItems * MemoryLayout<grass_item>.stride),
      detectors: try GPUMemory(context, count: DetectorParts(region.layout).size),
      keys: try GPUMemory(context, count: MemoryLayout<grass_gpu_keys>.stride),
      regionView: regionView, memoryViews: views)
  }

  private let period: Duration
  private var segmentCount = 0
  /// Where the GPU sees this machine's own memory, where that is what it watches.
  private var machine: [grass_mapped_segment]?

  /// Where the GPU sees the canary: in memory mapped as the watched memory is, or, where that is this machine's own, in the
  /// watched memory itself.
  private func place(of canary: Canary) throws(DeviceError) -> UInt64 {
    guard let machine else { return canary.watched }
    guard let address = canary.physicalAddress else {
      throw DeviceError(.gpu("where a page of this process lies cannot be told (/proc/self/pagemap); run as root"))
    }
    guard let bytes = machine.lazy.compactMap({ grass_segment_bytes([$0], address, 1) }).first else {
      throw DeviceError(.gpu("the memory to watch does not hold this process, so it is not this machine's"))
    }
    return UInt64(UInt(bitPattern: bytes))
  }

  /// Changes a word under the GPU's eyes, and has it say what it sees.
  private func proveFreshView() throws(DeviceError) {
    let canary = try Self.onGPU { () throws(CUDAError) in try Canary(context, isReadOnly: gpu.mapsReadOnly) }
    let watched = try place(of: canary)
    let rounds: UInt64 = 64
    let isFresh = try Self.onGPU { () throws(CUDAError) in
      try launch(
        "grass_canary", blocks: 1, threads: 1, [watched, control.deviceAddress + UInt64(control.answer), rounds])
      let place = control.base + control.answer
      for round in 1...rounds {
        canary.change(to: round)
        let deadline = SystemCall.monotonicNanoseconds() + 1_000_000_000
        while grass_load(place) != round {
          if SystemCall.monotonicNanoseconds() > deadline { return false }
          grass_pause()
        }
      }
      return true
    }
    // It ends with the last value, which by now it must have seen; where it does not, the process cannot use this GPU.
    canary.change(to: rounds)
    let deadline = SystemCall.monotonicNanoseconds() + 1_000_000_000
    while try Self.onGPU({ () throws(CUDAError) in try !isIdle() }) {
      guard SystemCall.monotonicNanoseconds() < deadline else { throw DeviceError(.staleView(gpu: gpu.name)) }
      SystemCall.sleep(nanoseconds: 100_000)
    }
    guard isFresh else { throw DeviceError(.staleView(gpu: gpu.name)) }
  }

  private func launch(_ kernel: String, blocks: Int, threads: Int, _ parameters: [UInt64]) throws(CUDAError) {
    try withParts { parts throws(CUDAError) in
      try parts.program.launch(kernel, blocks: blocks, threads: threads, on: parts.stream, parameters)
    }
  }

  private func isIdle() throws(CUDAError) -> Bool {
    try withParts { parts throws(CUDAError) in try parts.stream.isIdle() } ?? true
  }

  /// Lends the parts out, where there are any.
  private func withParts<Result>(_ body: (borrowing Parts) throws(CUDAError) -> Result) throws(CUDAError) -> Result? {
    guard let parts = parts.take() else { return nil }
    do throws(CUDAError) {
      let result = try body(parts)
      self.parts = consume parts
      return result
    } catch {
      self.parts = consume parts
      throw error
    }
  }

  private func start(_ program: MonitorProgram, kernel: KernelMapping, isFirst: Bool) throws(DeviceError) {
    let isSameBoot = !isWithdrawn && current.map { $0.0.kernel == program.kernel && $0.1 == kernel } ?? false
    isWithdrawn = false
    grass_store(control.base, UInt64(GRASS_GPU_RUN.rawValue))
    var header = region.layout.header
    var state = grass_gpu()
    if isFirst {
      guard grass_mailbox_prepare(&state.mailbox, nil, &header, nil, 0, nil) else { throw DeviceError(.badRegion) }
      for slot in 0..<region.layout.slotCount {
        let sequence = try onRegion { region throws(RegionError) in
          try region.word(at: region.layout.requestOffset(slot: slot))
        }
        grass_mailbox_skip(&state.mailbox, UInt32(slot), sequence)
      }
    }
    let blocks = gpu.multiprocessors
    if isFirst { try door?.handOver() }
    try Self.onGPU { () throws(CUDAError) in
      try withParts { parts throws(CUDAError) in
        let shared = door == nil ? 0 : Int(GRASS_GPU_KEYS_SIZE)
        guard try parts.program.blocksPerMultiprocessor("grass_resident", threads: Self.threads, shared: shared) > 0
        else {
          throw CUDAError(.program("a block of it needs more than \(gpu.name) has"))
        }
        if !isFirst {
          let size = MemoryLayout<grass_gpu>.size
          let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
          defer { bytes.deallocate() }
          try parts.state.load(into: bytes)
          state = bytes.load(as: grass_gpu.self)
        }
        func pointer<Pointee>(_ address: UInt64) -> UnsafeMutablePointer<Pointee>? {
          UnsafeMutablePointer(bitPattern: UInt(address))
        }
        state.mailbox.region = pointer(parts.regionView.parts.first?.device ?? region.device?.address ?? 0)
        state.mailbox.segments = UnsafePointer(
          pointer(parts.segments.address) as UnsafeMutablePointer<grass_mapped_segment>?)
        state.mailbox.segment_count = UInt64(segmentCount)
        state.mailbox.scratch = pointer(parts.scratch.address)
        state.machine = grass_machine()
        kernel.fill(&state.machine)
        state.machine.segments = state.mailbox.segments
        state.machine.segment_count = state.mailbox.segment_count
        state.parcel = grass_parcel()
        state.arrived = 0
        withUnsafeMutableBytes(of: &state.items) { bytes in
          let stages = Int(GRASS_MAX_STAGES) + 1
          for index in 0..<2 * stages {
            let half = UInt64(index % stages % 2 * Self.mostItems * MemoryLayout<grass_item>.stride)
            bytes.storeBytes(
              of: grass_items(items: pointer(parts.items.address + half), capacity: UInt64(Self.mostItems), count: 0),
              toByteOffset: index * MemoryLayout<grass_items>.stride, as: grass_items.self)
          }
        }
        state.monitors = grass_monitors()
        state.monitors.names = UnsafePointer(
          pointer(parts.names.address) as UnsafeMutablePointer<grass_monitor_answer>?)
        state.monitors.count = UInt32(program.monitorCount)
        let detectors = program.detectorNumbers
        state.monitors.most_workers = UInt32(max(1, blocks - (detectors.isEmpty ? 1 : 2)))
        state.monitors.lanes_per_worker = UInt32(Self.threads)
        state.monitors.default_lanes = Self.defaultLanes
        state.monitors.most_budget = Self.mostBudget
        state.control = UnsafePointer(pointer(control.deviceAddress) as UnsafeMutablePointer<grass_gpu_control>?)
        state.response = pointer(parts.response.address)
        state.output = pointer(parts.output.address)
        state.places = pointer(parts.places.address)
        if let door {
          if isFirst {
            try parts.keys.clear()
            try Self.store([door.firstList], in: parts.keys)
          }
          state.keys = pointer(parts.keys.address)
          state.door = pointer(door.deviceAddress)
        }
        try prepareDetectors(program, in: parts, state: &state, isFirst: isFirst, isSameBoot: isSameBoot)
        try Self.store([state], in: parts.state)
        try parts.program.launch(
          "grass_resident", blocks: 1 + Int(state.monitors.most_workers) + (detectors.isEmpty ? 0 : 1),
          threads: Self.threads, shared: shared, on: parts.stream, [parts.state.address])
      }
    }
    isRunning = true
    try awaitKeys()
  }

  /// Where in one piece of the GPU's memory lies what its detectors work with.
  private struct DetectorParts {
    let kept, state, items, output, words, size: Int
    static let mostItems = 1 << 14
    static let outputSize = 1 << 20

    init(_ layout: RegionLayout) {
      var end = 0
      func take(_ count: Int) -> Int {
        defer { end += (count + 255) / 256 * 256 }
        return end
      }
      _ = take(MemoryLayout<grass_detectors>.size)
      kept = take(Int(layout.header.open_count) * MemoryLayout<grass_kept>.stride)
      // One more for what gathers last words.
      state = take((Int(GRASS_MAX_DETECTORS) + 1) * Int(GRASS_STATE_WORDS) * 8)
      items = take(2 * Self.mostItems * MemoryLayout<grass_item>.stride)
      output = take(Self.outputSize)
      words = take(layout.wordsCapacity)
      size = end
    }
  }

  /// Puts the detectors together that the last block runs; what they found under an earlier program is kept.
  private func prepareDetectors(
    _ program: MonitorProgram, in parts: borrowing Parts, state: inout grass_gpu, isFirst: Bool, isSameBoot: Bool
  ) throws(CUDAError) {
    let places = DetectorParts(region.layout)
    let base = parts.detectors.address
    func pointer<Pointee>(_ offset: Int) -> UnsafeMutablePointer<Pointee>? {
      UnsafeMutablePointer(bitPattern: UInt(base) + UInt(offset))
    }
    var detectors = grass_detectors()
    var old = grass_detectors()
    var kept: [Int] = []
    if isFirst {
      try parts.detectors.clear()
      var header = region.layout.header
      // Whoever answered there before may have left a log; a region in the GPU's own memory is new.
      if region.device == nil {
        var summary = grass_summary()
        grass_keeper_start(
          &detectors.keeper, region.base.assumingMemoryBound(to: UInt8.self), &header, nil, &summary)
        state.mailbox.summary.newest_finding = summary.newest_finding
      }
      detectors.keeper.layout = header
    } else {
      let size = MemoryLayout<grass_detectors>.size
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
      defer { bytes.deallocate() }
      try parts.detectors.load(into: bytes)
      detectors = bytes.load(as: grass_detectors.self)
      old = detectors
      // Those that are the same and look at the same boot go on with what they remember.
      let count = places.items - places.state
      let (before, after) = (
        UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8),
        UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
      )
      defer {
        before.deallocate()
        after.deallocate()
      }
      _ = after.initializeMemory(as: UInt8.self, repeating: 0)
      if isSameBoot {
        try parts.detectors.load(into: before, at: places.state)
        let block = Int(GRASS_STATE_WORDS) * 8
        for (index, number) in program.detectorNumbers.enumerated() {
          guard let former = old.place(of: program.names[number], form: program.forms[number]) else { continue }
          UnsafeMutableRawBufferPointer(rebasing: after[index * block..<(index + 1) * block]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: before[former * block..<(former + 1) * block]))
          kept.append(index)
        }
      }
      try parts.detectors.store(UnsafeRawBufferPointer(after), at: places.state)
    }
    detectors.keeper.region = state.mailbox.region
    detectors.keeper.kept = pointer(places.kept)
    detectors.keeper.group =
      door == nil
      ? nil
      : UnsafePointer(
        bitPattern: UInt(parts.keys.address) + UInt(MemoryLayout<grass_gpu_keys>.offset(of: \.group) ?? 0))
    detectors.inbox = UnsafeMutablePointer(bitPattern: UInt(control.deviceAddress) + UInt(control.inbox))
    detectors.keeper.summary = UnsafeMutablePointer(
      bitPattern: UInt(parts.state.address)
        // Stored fields of C structs always have an offset.
        + UInt(
          (MemoryLayout<grass_gpu>.offset(of: \.mailbox) ?? 0)
            + (MemoryLayout<grass_mailbox>.offset(of: \.summary) ?? 0)))
    detectors.begin(program, period: period)
    if !kept.isEmpty { detectors.last = old.last }
    for index in kept { detectors.remember(index) }
    detectors.machine = UnsafePointer(
      bitPattern: UInt(parts.state.address) + UInt(MemoryLayout<grass_gpu>.offset(of: \.machine) ?? 0))
    detectors.words = pointer(places.words)
    detectors.words_capacity = program.wordsNumber == nil ? 0 : UInt64(region.layout.wordsCapacity)
    detectors.words_state = pointer(places.state + Int(GRASS_MAX_DETECTORS) * Int(GRASS_STATE_WORDS) * 8)
    detectors.items = pointer(places.items)
    detectors.item_capacity = UInt64(DetectorParts.mostItems)
    detectors.steps = Self.mostBudget
    detectors.state = pointer(places.state)
    detectors.job = grass_job()
    detectors.output = pointer(places.output)
    detectors.output_capacity = UInt64(DetectorParts.outputSize)
    try Self.store([detectors], in: parts.detectors)
    state.detectors = pointer(0)
  }

  /// Lanes of a run's first stage where nobody says otherwise: few, for words that all of them load cost a wait each.
  private static let defaultLanes: UInt32 = 512
  /// Items that a stage may leave for the next.
  private static let mostItems = 1 << 16

  private func end(_ how: grass_gpu_stop) throws(DeviceError) {
    guard isRunning else { return }
    grass_store(control.base, UInt64(how.rawValue))
    let deadline = SystemCall.monotonicNanoseconds() + Self.patience
    while try Self.onGPU({ () throws(CUDAError) in try !isIdle() }) {
      guard SystemCall.monotonicNanoseconds() < deadline else {
        throw DeviceError(.gpu("the resident program does not end"))
      }
      SystemCall.sleep(nanoseconds: 50_000)
    }
    isRunning = false
  }
}
