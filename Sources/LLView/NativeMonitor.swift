import CLLVM
public import CRuntime

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
