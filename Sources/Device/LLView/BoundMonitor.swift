import CLLVM
import Memory

/// A monitor bound to one kernel: all its rules applied and the runtime linked in, for any processor.
///
/// It is LLVM bitcode, 64 bits and little endian, with one function called as the monitor.
public struct BoundMonitor: Sendable {
  /// The name that the monitor has in its source.
  public let name: String
  /// The release of the kernel that it fits.
  public let kernel: String
  /// The build ID of that kernel: the code fits every boot of it.
  public let build: String
  let bitcode: [UInt8]
  /// The same as long as its code is, and so what it remembers means the same; never 0.
  let form: UInt64

  /// Whether devices run it by themselves: its name says so.
  public var isDetector: Bool { name.hasPrefix("detect_") }

  /// Binds a monitor's bitcode, as ``FrontEnd`` makes it, to a kernel.
  ///
  /// Cost: some tens of milliseconds.
  ///
  /// - Parameters:
  ///   - bytes: the bitcode.
  ///   - file: whose code it is, for errors, until the code itself says.
  ///   - kernel: the names that the kernel gives to types and variables.
  /// - Throws: ``LLViewError`` naming what the kernel lacks or what the monitor may not do.
  public init(_ bytes: [UInt8], name file: String, for kernel: KernelNames) throws(LLViewError) {
    let runtime = try FrontEnd.runtime.get()
    var module = try IRModule(bytes, name: file)
    LLVMSetTarget(module.module, "x86_64-unknown-linux-gnu")
    LLVMSetDataLayout(module.module, Target.neutralLayout)

    // What the debug information is needed for comes first.
    var fields = FieldRelocation(kernel: kernel, monitor: file, context: module.context)
    try fields.apply(to: module)
    try ArrayStrides(structures: fields.structures, monitor: file, context: module.context).apply(to: module)
    LLVMStripModuleDebugInfo(module.module)
    try GlobalBinding(kernel: kernel, monitor: file, context: module.context).apply(to: module)
    let entry = try Calls(monitor: file, context: module.context).apply(to: module)
    let name = entry.name

    // One function, its variables in registers where that can be, and without what a field's absence makes dead.
    try module.run(
      "always-inline,globaldce,function(sroa,early-cse,instcombine,simplifycfg,lower-switch),globaldce", name: name)
    try fields.checkMissing(in: module)
    try Translation(monitor: name, context: module.context, entry: entry).apply(in: module)
    Division(context: module.context).apply(to: entry, in: module)
    LoopBudget(context: module.context).apply(to: entry, in: module)
    try module.verify(name: name)

    try module.link(runtime, name: name)
    LLVMStripModuleDebugInfo(module.module)
    for function in module.functions where function.name != name && !function.isDeclaration {
      LLVMSetLinkage(function, LLVMInternalLinkage)
      // What the runtime calls volatile is watched memory, too.
      for load in function.instructions where load.opcode == LLVMLoad && LLVMGetVolatile(load) != 0 {
        load.mark(Translation.pinned, in: module.context)
      }
    }
    try module.run("globaldce", name: name)
    self.name = name
    self.kernel = kernel.release
    build = kernel.build
    // Where its source lay is no part of it.
    LLVMSetSourceFileName(module.module, name, name.utf8.count)
    let bitcode = module.bitcode
    self.bitcode = bitcode
    form = max(1, bitcode.withUnsafeBytes { MemoryDigest($0) }.low)
  }
}

extension IRModule {
  var bitcode: [UInt8] {
    let buffer = LLVMWriteBitcodeToMemoryBuffer(module)
    defer { LLVMDisposeMemoryBuffer(buffer) }
    return bytes(of: buffer)
  }
}

func bytes(of buffer: LLVMMemoryBufferRef?) -> [UInt8] {
  Array(UnsafeRawBufferPointer(start: LLVMGetBufferStart(buffer), count: LLVMGetBufferSize(buffer)))
}
