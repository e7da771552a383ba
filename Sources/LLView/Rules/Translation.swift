import CLLVM

/// Rule 5: every load and store is judged, and loads of watched memory are translated.
///
/// What provably stays inside one of the monitor's own variables is left alone. What is computed from such a variable is
/// checked against its bounds. Anything else may be a kernel address: the runtime translates it, allows the run's own
/// output, and refuses the rest.
struct Translation {
  let monitor: String
  let context: LLVMContextRef
  let entry: LLVMValueRef

  /// Bytes of variables that a lane may have.
  static let mostStack = 16 << 10

  func apply(in module: borrowing IRModule) throws(LLViewError) {
    let layout = LLVMGetModuleDataLayout(module.module)
    var stack = 0
    for instruction in entry.instructions where LLVMIsAAllocaInst(instruction) != nil {
      guard LLVMGetInstructionParent(instruction) == LLVMGetEntryBasicBlock(entry),
        let count = instruction.operand(0).constant
      else { throw refused("it has a variable whose size is not constant") }
      stack &+= Int(truncatingIfNeeded: LLVMABISizeOfType(layout, LLVMGetAllocatedType(instruction))) &* Int(count)
      guard stack >= 0, stack <= Self.mostStack else {
        throw refused("its variables take more than \(Self.mostStack >> 10) KiB")
      }
    }
    GlobalBinding.resolve(in: entry, of: module, context: context)
    for instruction in entry.instructions {
      switch instruction.opcode {
      case LLVMLoad: try translateLoad(instruction, layout, module)
      case LLVMStore: try translateStore(instruction, layout, module)
      case LLVMCall:
        let name = instruction.callee?.name ?? ""
        if name.hasPrefix("llvm.memcpy.") || name.hasPrefix("llvm.memmove.") {
          translateCopy(instruction, layout, module)
        } else if name.hasPrefix("llvm.memset.") {
          translateFill(instruction, layout, module)
        } else if name == "llvm.assume" || name.hasPrefix("llvm.lifetime.") {
          // Promises about values are not taken from a monitor.
          LLVMInstructionEraseFromParent(instruction)
        }
      default: break
      }
    }
  }

  private func translateLoad(
    _ load: LLVMValueRef, _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) throws(LLViewError) {
    let size = Int(truncatingIfNeeded: LLVMStoreSizeOfType(layout, load.type))
    let natural = Int(LLVMABIAlignmentOfType(layout, load.type))
    guard size > 0, size <= 16 else { throw refused("it loads \(size) bytes at once") }
    // The declaration may promise more than the field's place in this kernel keeps.
    let alignment = min(Int(LLVMGetAlignment(load)), natural)
    LLVMSetAlignment(load, UInt32(alignment))
    let pointer = load.operand(0)
    let builder = IRBuilder(before: load, context: context)
    switch base(of: pointer, layout) {
    case .variable(let base, let total, let offset):
      if let offset, offset >= 0, offset + size <= total { return }
      LLVMSetOperand(load, 0, within(pointer, size, base, total, builder, module))
    case .unknown where alignment < natural:
      // It may cross a page: copied first.
      let start = IRBuilder(
        before: LLVMGetFirstInstruction(LLVMGetEntryBasicBlock(entry)), context: context)
      let room: LLVMValueRef = LLVMBuildAlloca(start.builder, load.type, "")
      LLVMBuildStore(builder.builder, LLVMConstNull(load.type), room)
      copy(room, room, size, pointer, nil, 0, builder.number(size), builder, module)
      LLVMSetOperand(load, 0, room)
      LLVMSetAlignment(load, UInt32(natural))
    case .unknown:
      let function = module.function(
        "grass_load_at", builder.pointer, [builder.pointer, builder.i64, builder.i64, builder.i64])
      let place = builder.call(
        function, [run, builder.address(pointer), builder.number(size), builder.number(alignment)])
      LLVMSetOperand(load, 0, place)
      // Watched memory changes by itself; a GPU would otherwise answer the next run's load from its cache.
      LLVMSetVolatile(load, 1)
    }
  }

  private func translateStore(
    _ store: LLVMValueRef, _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) throws(LLViewError) {
    let type = store.operand(0).type
    let size = Int(truncatingIfNeeded: LLVMStoreSizeOfType(layout, type))
    guard size > 0, size <= 16 else { throw refused("it stores \(size) bytes at once") }
    let alignment = min(Int(LLVMGetAlignment(store)), Int(LLVMABIAlignmentOfType(layout, type)))
    LLVMSetAlignment(store, UInt32(alignment))
    let pointer = store.operand(1)
    let builder = IRBuilder(before: store, context: context)
    switch base(of: pointer, layout) {
    case .variable(let base, let total, let offset):
      guard LLVMIsAAllocaInst(base) != nil else { throw refused("it stores to a constant") }
      if let offset, offset >= 0, offset + size <= total { return }
      LLVMSetOperand(store, 1, within(pointer, size, base, total, builder, module))
    case .unknown:
      if LLVMIsAConstant(pointer) != nil || GlobalBinding.isVariable(pointer.stepsRoot) {
        throw refused("it stores to a variable of the kernel")
      }
      let function = module.function(
        "grass_store_at", builder.pointer, [builder.pointer, builder.i64, builder.i64, builder.i64])
      let place = builder.call(
        function, [run, builder.address(pointer), builder.number(size), builder.number(alignment)])
      LLVMSetOperand(store, 1, place)
    }
  }

  private func translateCopy(
    _ call: LLVMValueRef, _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) {
    let (to, from, count) = (call.operand(0), call.operand(1), call.operand(2))
    let builder = IRBuilder(before: call, context: context)
    let (toBase, toSize) = base(of: to, layout).variable
    let (fromBase, fromSize) = base(of: from, layout).variable
    copy(to, toBase, toSize, from, fromBase, fromSize, builder.wide(count), builder, module)
    LLVMInstructionEraseFromParent(call)
  }

  private func copy(
    _ to: LLVMValueRef, _ toBase: LLVMValueRef?, _ toSize: Int, _ from: LLVMValueRef, _ fromBase: LLVMValueRef?,
    _ fromSize: Int, _ count: LLVMValueRef, _ builder: borrowing IRBuilder, _ module: borrowing IRModule
  ) {
    let function = module.function(
      "grass_copy", LLVMVoidTypeInContext(context),
      [
        builder.pointer, builder.i64, builder.pointer, builder.i64, builder.i64, builder.pointer, builder.i64,
        builder.i64,
      ])
    _ = builder.call(
      function,
      [
        run, builder.address(to), toBase ?? builder.null, builder.number(toSize), builder.address(from),
        fromBase ?? builder.null, builder.number(fromSize), count,
      ])
  }

  private func translateFill(
    _ call: LLVMValueRef, _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) {
    let builder = IRBuilder(before: call, context: context)
    let (toBase, toSize) = base(of: call.operand(0), layout).variable
    let function = module.function(
      "grass_fill", LLVMVoidTypeInContext(context),
      [builder.pointer, builder.i64, builder.pointer, builder.i64, builder.i8, builder.i64])
    _ = builder.call(
      function,
      [
        run, builder.address(call.operand(0)), toBase ?? builder.null, builder.number(toSize), call.operand(1),
        builder.wide(call.operand(2)),
      ])
    LLVMInstructionEraseFromParent(call)
  }

  private func within(
    _ pointer: LLVMValueRef, _ size: Int, _ base: LLVMValueRef, _ total: Int, _ builder: borrowing IRBuilder,
    _ module: borrowing IRModule
  ) -> LLVMValueRef {
    let function = module.function(
      "grass_within", builder.pointer,
      [builder.pointer, builder.i64, builder.i64, builder.pointer, builder.i64])
    return builder.call(
      function, [run, builder.address(pointer), builder.number(size), base, builder.number(total)])
  }

  private var run: LLVMValueRef { LLVMGetParam(entry, 0) }

  // MARK: Where an address comes from

  private enum Base {
    /// One of the monitor's own variables or constants, its size, and the offset where that is constant.
    case variable(LLVMValueRef, size: Int, offset: Int?)
    case unknown

    var variable: (LLVMValueRef?, Int) {
      if case .variable(let base, let size, _) = self { (base, size) } else { (nil, 0) }
    }
  }

  private func base(of pointer: LLVMValueRef, _ layout: LLVMTargetDataRef?) -> Base {
    var value = pointer
    var offset: Int? = 0
    while true {
      if LLVMIsAAllocaInst(value) != nil {
        let count = Int(value.operand(0).constant ?? 1)
        let size = Int(truncatingIfNeeded: LLVMABISizeOfType(layout, LLVMGetAllocatedType(value))) &* count
        return .variable(value, size: size, offset: offset)
      }
      if LLVMIsAGlobalVariable(value) != nil {
        let size = Int(truncatingIfNeeded: LLVMABISizeOfType(layout, LLVMGlobalGetValueType(value)))
        return .variable(value, size: size, offset: offset)
      }
      guard value.isStep else { return .unknown }
      offset = offset.flatMap { sum in value.step(layout).map { sum &+ $0 } }
      value = value.operand(0)
    }
  }

  private func refused(_ why: String) -> LLViewError { LLViewError(monitor, .refused(why)) }
}
