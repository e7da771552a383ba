import CLLVM
import KernelInfo
import Memory

/// Rule 3: an extern variable of the kernel becomes its address in that kernel; a per-CPU one becomes its offset in the
/// per-CPU areas, as kallsyms has it.
///
/// Addresses are those that the kernel was linked with, so that the code fits every boot of one build: where this boot
/// has them, the run says.
struct GlobalBinding {
  let kernel: KernelNames
  let monitor: String
  let context: LLVMContextRef

  /// Stands for the address of a variable until all functions have become one, which knows its run.
  static let marker = "grass.symbol"
  private static let resolved = "grass_symbol"
  /// Where the kernel's image starts at the earliest; what lies below is an offset.
  private static let imageStart: UInt64 = 0xffff_ffff_8000_0000

  func apply(to module: borrowing IRModule) throws(LLViewError) {
    for global in module.globals {
      let name = global.name
      if !global.isDeclaration {
        guard LLVMIsGlobalConstant(global) != 0 || LLVMGetFirstUse(global) == nil else {
          throw LLViewError(
            monitor, kernel: kernel.release,
            .refused(
              "variable '\(name)' can change; a monitor keeps nothing from run to run, so make it const or local"))
        }
        LLVMSetLinkage(global, LLVMPrivateLinkage)
        LLVMSetSection(global, nil)
        continue
      }
      if LLVMGetFirstUse(global) != nil { try bind(global, in: module) }
      LLVMDeleteGlobal(global)
    }
    // A kernel function's address may be looked at; `Calls` refuses to call it.
    for function in module.functions where function.isDeclaration && !function.name.hasPrefix("llvm.") {
      guard function.users.contains(where: { !($0.isInstruction && $0.callee == function) }) else { continue }
      try bind(function, in: module)
    }
  }

  private func bind(_ symbol: LLVMValueRef, in module: borrowing IRModule) throws(LLViewError) {
    let name = symbol.name
    let found = kernel.address(name)
    if found == nil, LLVMGetLinkage(symbol) != LLVMExternalWeakLinkage {
      let why = KernelInfoError(.missingSymbol(name), release: kernel.release)
      throw LLViewError(monitor, kernel: kernel.release, .missing("\(why)"))
    }
    let address = found?.rawValue ?? 0
    let number = LLVMConstInt(
      LLVMInt64TypeInContext(context), address >= Self.imageStart ? address &- kernel.slide : address, 0)
    guard address >= Self.imageStart else {
      let pointer = LLVMConstIntToPtr(number, LLVMPointerTypeInContext(context, 0))
      if symbol.users.contains(where: { $0.isInstruction && $0.callee == symbol }) { return }
      LLVMReplaceAllUsesWith(symbol, pointer)
      return
    }
    let layout = LLVMGetModuleDataLayout(module.module)
    let pointer = LLVMPointerTypeInContext(context, 0)
    let marker = module.function(Self.marker, pointer, [LLVMInt64TypeInContext(context)])
    for instruction in module.functions.flatMap(\.instructions) {
      for index in 0..<instruction.operandCount {
        let operand = instruction.operand(index)
        guard operand == symbol || operand.stepsRoot == symbol || operand.isPointerNumber(of: symbol),
          instruction.callee != symbol || index < instruction.operandCount - 1
        else { continue }
        let place =
          LLVMIsAPHINode(instruction) == nil
          ? instruction : LLVMGetBasicBlockTerminator(LLVMGetIncomingBlock(instruction, UInt32(index)))
        guard let place else { continue }
        let builder = IRBuilder(before: place, context: context)
        LLVMSetOperand(instruction, UInt32(index), try rebuild(operand, symbol, marker, number, builder, layout))
      }
    }
    let others = symbol.users.filter { !$0.isInstruction && LLVMGetFirstUse($0) != nil }
    guard others.isEmpty else {
      throw LLViewError(
        monitor, .refused("it keeps the address of the kernel's '\(name)' in a constant; take it where it is used"))
    }
  }

  /// A constant made from a symbol's address, as instructions.
  private func rebuild(
    _ value: LLVMValueRef, _ symbol: LLVMValueRef, _ marker: LLVMValueRef, _ number: LLVMValueRef?,
    _ builder: borrowing IRBuilder, _ layout: LLVMTargetDataRef?
  ) throws(LLViewError) -> LLVMValueRef {
    if value == symbol { return builder.call(marker, [number]) }
    if value.isPointerNumber(of: symbol) {
      return builder.address(try rebuild(value.operand(0), symbol, marker, number, builder, layout))
    }
    guard let distance = value.step(layout) else {
      throw LLViewError(monitor, .refused("it computes an address from the kernel's '\(symbol.name)' by hand"))
    }
    return builder.add(
      try rebuild(value.operand(0), symbol, marker, number, builder, layout), builder.number(distance))
  }

  /// Puts the run's own addresses in the place of all markers.
  static func resolve(in entry: LLVMValueRef, of module: borrowing IRModule, context: LLVMContextRef) {
    for call in entry.instructions where call.callee?.name == marker {
      let builder = IRBuilder(before: call, context: context)
      let function = module.function(resolved, builder.pointer, [builder.pointer, builder.i64])
      call.replace(with: builder.call(function, [LLVMGetParam(entry, 0), call.operand(0)]))
    }
    if let function = LLVMGetNamedFunction(module.module, marker) { LLVMDeleteFunction(function) }
  }

  /// Whether a value is the address of a kernel's variable.
  static func isVariable(_ value: LLVMValueRef) -> Bool { value.callee?.name == resolved }
}

extension LLVMValueRef {
  /// Whether it is a symbol's address as a constant number.
  fileprivate func isPointerNumber(of symbol: LLVMValueRef) -> Bool {
    LLVMIsAConstantExpr(self) != nil && LLVMGetConstOpcode(self) == LLVMPtrToInt
      && operand(0).stepsRoot == symbol
  }
}
