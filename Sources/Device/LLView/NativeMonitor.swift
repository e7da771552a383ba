import CLLVM
import CMailbox
import CRegion
public import CRuntime
import Devices
public import Records

/// A monitor as code of this machine, made by LLVM's just-in-time linker, which it owns.
public final class NativeMonitor: @unchecked Sendable {
  // The code does not change once it is linked.
  public let name: String
  public let kernel: String
  private let linker: LLVMOrcLLJITRef
  private let function: @convention(c) (UnsafeMutablePointer<grass_lane_state>?) -> Void

  /// Cost: that of ``BoundMonitor/objectFile()``.
  public init(_ monitor: BoundMonitor) throws(LLViewError) {
    let code = try monitor.objectFile()
    name = monitor.name
    kernel = monitor.kernel
    func check(_ error: LLVMErrorRef?) throws(LLViewError) {
      if let error { throw LLViewError(monitor.name, .backEnd(LLViewText.error(error))) }
    }
    var made: LLVMOrcLLJITRef?
    try check(LLVMOrcCreateLLJIT(&made, nil))
    guard let linker = made else { throw LLViewError(monitor.name, .backEnd("there is no linker")) }
    do throws(LLViewError) {
      let library = LLVMOrcLLJITGetMainJITDylib(linker)
      // memcpy and memset, which LLVM makes of loops.
      var generator: LLVMOrcDefinitionGeneratorRef?
      try check(
        LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(
          &generator, LLVMOrcLLJITGetGlobalPrefix(linker), nil, nil))
      LLVMOrcJITDylibAddGenerator(library, generator)
      let buffer = code.withUnsafeBytes {
        LLVMCreateMemoryBufferWithMemoryRangeCopy(
          $0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count, monitor.name)
      }
      try check(LLVMOrcLLJITAddObjectFile(linker, library, buffer))
      var address: LLVMOrcExecutorAddress = 0
      try check(LLVMOrcLLJITLookup(linker, &address, name))
      guard let pointer = UnsafeRawPointer(bitPattern: UInt(address)) else {
        throw LLViewError(name, .backEnd("it has no address"))
      }
      function = unsafeBitCast(pointer, to: (@convention(c) (UnsafeMutablePointer<grass_lane_state>?) -> Void).self)
      self.linker = linker
    } catch {
      _ = LLVMOrcDisposeLLJIT(linker)
      throw error
    }
  }

  deinit { _ = LLVMOrcDisposeLLJIT(linker) }

  /// Runs one lane to its end.
  public func run(_ lane: UnsafeMutablePointer<grass_lane_state>) { function(lane) }
}

extension NativeMonitor {
  /// Runs all lanes, one after the other, on the calling thread.
  ///
  /// - Parameters:
  ///   - machine: what is watched.
  ///   - lanes: how many there are.
  ///   - budget: passes of loops that each lane may take.
  ///   - arguments: up to four numbers for the monitor.
  ///   - capacity: bytes of records in all, a multiple of 8.
  /// - Returns: its records, and the faults of lanes that ended early.
  public func run(
    on machine: WatchedMachine, lanes: Int = 1, budget: UInt64 = 1 << 24, arguments: [UInt64] = [],
    capacity: Int = 1 << 20
  ) -> MonitorResult {
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity / 8)
    let items = UnsafeMutablePointer<grass_item>.allocate(capacity: 2 * Self.mostItems)
    defer {
      words.deallocate()
      items.deallocate()
    }
    let bytes = UnsafeMutableRawPointer(words).assumingMemoryBound(to: UInt8.self)
    var job = grass_job()
    job.output = grass_output(bytes: bytes, capacity: UInt64(capacity / 8 * 8), used: 0)
    job.lanes = UInt32(lanes)
    job.budget = budget
    withUnsafeMutableBytes(of: &job.arguments) { words in
      for (index, argument) in arguments.prefix(4).enumerated() {
        words.storeBytes(of: argument, toByteOffset: index * 8, as: UInt64.self)
      }
    }
    var state = grass_lane_state()
    // It is one monitor, and so no use for the number.
    let entry = unsafeBitCast(
      function, to: (@convention(c) (UnsafeMutablePointer<grass_lane_state>?, UInt32) -> Void).self)
    grass_job_run(&job, machine.machine, entry, &state, items, UInt64(Self.mostItems), UInt64.max)
    let faults = withUnsafeBytes(of: &job.faults) { bytes in
      (0..<min(Int(job.faulted), Int(GRASS_MAX_FAULTS))).map { index in
        let fault = bytes.load(
          fromByteOffset: index * MemoryLayout<grass_lane_fault>.stride, as: grass_lane_fault.self)
        return MonitorResult.Fault(
          code: fault.fault, lane: Int(truncatingIfNeeded: fault.lane), address: fault.address,
          level: Int(fault.level), entry: fault.entry)
      }
    }
    return MonitorResult(
      output: Array(UnsafeBufferPointer(start: bytes, count: Int(min(job.output.used, job.output.capacity)))),
      faults: faults)
  }

  private static let mostItems = 1 << 16
}
