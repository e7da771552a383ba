import CLLVM
public import CRuntime
public import Monitor

/// A monitor as code of this machine, made by LLVM's just-in-time linker, which it owns.
public final class NativeMonitor: @unchecked Sendable {
  // The code does not change once it is linked.
  public let name: String
  public let kernel: String
  private let linker: LLVMOrcLLJITRef
  private let function: @convention(c) (UnsafeMutablePointer<grass_run>?) -> Void

  /// Cost: that of ``BoundMonitor/code(for:)``.
  public init(_ monitor: BoundMonitor) throws(LLViewError) {
    let code = try monitor.code(for: .native)
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
      function = unsafeBitCast(pointer, to: (@convention(c) (UnsafeMutablePointer<grass_run>?) -> Void).self)
      self.linker = linker
    } catch {
      _ = LLVMOrcDisposeLLJIT(linker)
      throw error
    }
  }

  deinit { _ = LLVMOrcDisposeLLJIT(linker) }

  /// Runs one lane to its end.
  public func run(_ lane: UnsafeMutablePointer<grass_run>) { function(lane) }
}

extension NativeMonitor {
  /// Runs all lanes, one after the other, on the calling thread.
  ///
  /// - Parameters:
  ///   - lanes: how many there are.
  ///   - budget: passes of loops that each lane may take.
  ///   - arguments: up to four numbers for the monitor.
  ///   - capacity: bytes of records in all, a multiple of 8.
  public func run(
    on machine: WatchedMachine, lanes: Int = 1, budget: UInt64 = 1 << 24, arguments: [UInt64] = [],
    capacity: Int = 1 << 20
  ) -> MonitorResult {
    let words = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity / 8)
    let numbers = UnsafeMutablePointer<UInt64>.allocate(capacity: 4)
    numbers.initialize(repeating: 0, count: 4)
    for (index, argument) in arguments.prefix(4).enumerated() { numbers[index] = argument }
    defer {
      words.deallocate()
      numbers.deallocate()
    }
    let bytes = UnsafeMutableRawPointer(words).assumingMemoryBound(to: UInt8.self)
    var output = grass_output(bytes: bytes, capacity: UInt64(capacity / 8 * 8), used: 0)
    var faults: [MonitorResult.Fault] = []
    withUnsafeMutablePointer(to: &output) { output in
      for lane in 0..<lanes {
        var state = grass_run()
        grass_run_start(&state, machine.machine, output, UInt32(lane), UInt32(lanes), budget, numbers, false)
        run(&state)
        if state.fault != 0 {
          faults.append(
            .init(
              code: state.fault, lane: lane, address: state.fault_address, level: Int(state.fault_level),
              entry: state.fault_entry))
        }
      }
    }
    return MonitorResult(
      output: Array(UnsafeBufferPointer(start: bytes, count: Int(min(output.used, output.capacity)))), faults: faults)
  }
}
