import CLLVM

/// A processor that code is made for.
public enum Target: Hashable, Sendable, CustomStringConvertible {
  /// This machine's own.
  case native
  /// An NVIDIA GPU of a compute capability, such as 90 for 9.0; its code is PTX, which the driver compiles further.
  case nvidia(capability: Int)

  /// How types lie in memory until a target is chosen: the layout of BPF, which agrees with both targets.
  static let neutralLayout = "e-m:e-i64:64-i128:128-n32:64-S128"

  public var description: String {
    switch self {
    case .native: "this machine's processor"
    case .nvidia(let capability): "sm_\(capability)"
    }
  }

  func machine(for monitor: String) throws(LLViewError) -> TargetMachine {
    grass_llvm_initialize()
    switch self {
    case .native:
      let triple = LLViewText.take(LLVMGetDefaultTargetTriple())
      return try TargetMachine(
        triple: triple, processor: LLViewText.take(LLVMGetHostCPUName()),
        features: LLViewText.take(LLVMGetHostCPUFeatures()), monitor: monitor)
    case .nvidia(let capability):
      return try TargetMachine(
        triple: "nvptx64-nvidia-cuda", processor: "sm_\(capability)", features: capability >= 90 ? "+ptx78" : "+ptx70",
        monitor: monitor)
    }
  }
}

/// LLVM's idea of a processor.
///
/// Owns it.
struct TargetMachine: ~Copyable {
  let machine: LLVMTargetMachineRef

  init(triple: String, processor: String, features: String, monitor: String) throws(LLViewError) {
    var target: LLVMTargetRef?
    var message: UnsafeMutablePointer<CChar>?
    guard LLVMGetTargetFromTriple(triple, &target, &message) == 0,
      let machine = LLVMCreateTargetMachine(
        target, triple, processor, features, LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelDefault)
    else { throw LLViewError(monitor, .backEnd("no code for \(triple): \(LLViewText.take(message))")) }
    self.machine = machine
  }

  deinit { LLVMDisposeTargetMachine(machine) }

  /// Optimises a module and makes code of it.
  ///
  /// `finish` changes what was optimised before code is made of it.
  func emit(
    _ module: borrowing IRModule, _ kind: LLVMCodeGenFileType, monitor: String,
    finish: (borrowing IRModule) -> Void = { _ in }
  ) throws(LLViewError) -> [UInt8] {
    var message: UnsafeMutablePointer<CChar>?
    try module.run("default<O2>", machine: machine, name: monitor)
    finish(module)
    var buffer: LLVMMemoryBufferRef?
    guard LLVMTargetMachineEmitToMemoryBuffer(machine, module.module, kind, &message, &buffer) == 0 else {
      throw LLViewError(monitor, .backEnd(LLViewText.take(message)))
    }
    defer { LLVMDisposeMemoryBuffer(buffer) }
    return bytes(of: buffer)
  }

  /// Makes a module one for this target.
  func adopt(_ module: borrowing IRModule) {
    let layout = LLVMCreateTargetDataLayout(machine)
    defer { LLVMDisposeTargetData(layout) }
    LLVMSetModuleDataLayout(module.module, layout)
    let triple = LLVMGetTargetMachineTriple(machine)
    LLVMSetTarget(module.module, triple)
    LLVMDisposeMessage(triple)
  }
}

extension BoundMonitor {
  /// The monitor as an object file for this machine.
  ///
  /// Cost: some tens of milliseconds.
  func objectFile() throws(LLViewError) -> [UInt8] {
    let module = try IRModule(bitcode, name: name)
    let machine = try Target.native.machine(for: name)
    machine.adopt(module)
    return try machine.emit(module, LLVMObjectFile, monitor: name)
  }
}
