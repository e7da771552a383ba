import CLLVM

/// A module of LLVM's, with the context it lives in.
///
/// Owns both.
struct IRModule: ~Copyable {
  let context: LLVMContextRef
  private(set) var module: LLVMModuleRef

  /// Parses bitcode or the text of IR.
  ///
  /// `name` says whose code it is, for errors.
  init(_ bytes: [UInt8], name: String) throws(LLViewError) {
    guard let context = LLVMContextCreate() else { throw LLViewError(name, .badModule("no memory for a context")) }
    do throws(LLViewError) {
      module = try Self.parse(bytes, name: name, in: context)
    } catch {
      LLVMContextDispose(context)
      throw error
    }
    self.context = context
  }

  deinit {
    LLVMDisposeModule(module)
    LLVMContextDispose(context)
  }

  private static func parse(
    _ bytes: [UInt8], name: String, in context: LLVMContextRef
  ) throws(LLViewError) -> LLVMModuleRef {
    let buffer = bytes.withUnsafeBytes { bytes in
      LLVMCreateMemoryBufferWithMemoryRangeCopy(
        bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count, name)
    }
    var module: LLVMModuleRef?
    var message: UnsafeMutablePointer<CChar>?
    // Takes the buffer over.
    guard LLVMParseIRInContext(context, buffer, &module, &message) == 0, let module else {
      throw LLViewError(name, .badModule(LLViewText.take(message)))
    }
    return module
  }

  /// Links another module's code into this one.
  mutating func link(_ bytes: [UInt8], name: String) throws(LLViewError) {
    let other = try Self.parse(bytes, name: name, in: context)
    LLVMSetTarget(other, LLVMGetTarget(module))
    LLVMSetDataLayout(other, LLVMGetDataLayoutStr(module))
    guard LLVMLinkModules2(module, other) == 0 else { throw LLViewError(name, .backEnd("it could not be linked")) }
  }

  /// Runs LLVM's own passes, as `opt -passes=` names them.
  func run(_ passes: String, machine: LLVMTargetMachineRef? = nil, name: String) throws(LLViewError) {
    let options = LLVMCreatePassBuilderOptions()
    defer { LLVMDisposePassBuilderOptions(options) }
    if let error = LLVMRunPasses(module, passes, machine, options) {
      throw LLViewError(name, .backEnd(LLViewText.error(error)))
    }
  }

  /// Whether the module is well formed.
  func verify(name: String) throws(LLViewError) {
    var message: UnsafeMutablePointer<CChar>?
    let isBroken = LLVMVerifyModule(module, LLVMReturnStatusAction, &message) != 0
    let why = LLViewText.take(message)
    if isBroken { throw LLViewError(name, .backEnd("its code became malformed: \(why)")) }
  }

  var functions: [LLVMValueRef] { collect(LLVMGetFirstFunction(module), LLVMGetNextFunction) }
  var globals: [LLVMValueRef] { collect(LLVMGetFirstGlobal(module), LLVMGetNextGlobal) }

  /// The function that monitors call or LLView inserts, declared as the runtime defines it.
  func function(_ name: String, _ result: LLVMTypeRef?, _ parameters: [LLVMTypeRef?]) -> LLVMValueRef {
    if let known = LLVMGetNamedFunction(module, name) { return known }
    var parameters = parameters
    return LLVMAddFunction(
      module, name, LLVMFunctionType(result, &parameters, UInt32(parameters.count), 0))
  }

  /// A constant of 64-bit numbers.
  func constant(_ numbers: [Int], context: LLVMContextRef) -> LLVMValueRef {
    let type = LLVMInt64TypeInContext(context)
    var values: [LLVMValueRef?] = numbers.map { LLVMConstInt(type, UInt64(bitPattern: Int64($0)), 0) }
    let global: LLVMValueRef = LLVMAddGlobal(module, LLVMArrayType2(type, UInt64(values.count)), "numbers")
    LLVMSetInitializer(global, LLVMConstArray2(type, &values, UInt64(values.count)))
    LLVMSetGlobalConstant(global, 1)
    LLVMSetLinkage(global, LLVMPrivateLinkage)
    return global
  }

  /// The module as LLVM prints it.
  var text: String { LLViewText.take(LLVMPrintModuleToString(module)) }
}

/// Texts that LLVM hands over.
enum LLViewText {
  static func take(_ message: UnsafeMutablePointer<CChar>?) -> String {
    guard let message else { return "" }
    defer { LLVMDisposeMessage(message) }
    return String(cString: message)
  }

  static func error(_ error: LLVMErrorRef) -> String {
    guard let message = LLVMGetErrorMessage(error) else { return "" }
    defer { LLVMDisposeErrorMessage(message) }
    return String(cString: message)
  }
}

func collect(_ first: OpaquePointer?, _ next: (OpaquePointer?) -> OpaquePointer?) -> [OpaquePointer] {
  var all: [OpaquePointer] = []
  var item = first
  while let value = item {
    all.append(value)
    item = next(value)
  }
  return all
}
