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
    var inWaves: Set<LLVMValueRef> = []
    for block in entry.blocks { inWaves.formUnion(translateWaves(of: block, layout, module)) }
    for instruction in entry.instructions {
      switch instruction.opcode {
      case LLVMLoad where inWaves.contains(instruction): break
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

  /// Translates loads that can be on their way together, and returns them.
  private func translateWaves(
    of block: LLVMBasicBlockRef, _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) -> Set<LLVMValueRef> {
    let loads = collect(LLVMGetFirstInstruction(block), LLVMGetNextInstruction).filter { load in
      guard load.opcode == LLVMLoad, LLVMGetVolatile(load) == 0 else { return false }
      let size = Int(truncatingIfNeeded: LLVMStoreSizeOfType(layout, load.type))
      let natural = Int(LLVMABIAlignmentOfType(layout, load.type))
      guard case .unknown = base(of: load.operand(0), layout) else { return false }
      return size > 0 && size <= 16 && Int(LLVMGetAlignment(load)) >= natural
    }
    var order = LoadWaves(block)
    let waves = order.waves(of: Set(loads)) { instruction in
      switch instruction.opcode {
      case LLVMLoad: return LLVMGetVolatile(instruction) != 0
      case LLVMStore:
        if case .unknown = base(of: instruction.operand(1), layout) { return true }
        return false
      case LLVMCall: return !Self.harmless.contains(instruction.callee?.name ?? "")
      default: return false
      }
    }
    var translated: Set<LLVMValueRef> = []
    for wave in waves where wave.count > 1 {
      translate(wave, layout, module)
      translated.formUnion(wave)
    }
    return translated
  }

  /// Calls that neither change what loads find nor care for what they found.
  private static let harmless: Set<String> = [
    "grass_symbol", "grass_lane", "grass_lanes", "grass_stage", "grass_item", "grass_argument", "grass_memory_start",
    "grass_memory_size",
  ]

  /// Puts all checks of a wave's addresses in front of its first load, and the other loads behind that one.
  private func translate(
    _ wave: [LLVMValueRef], _ layout: LLVMTargetDataRef?, _ module: borrowing IRModule
  ) {
    // By what they are fields of, in the order in which these come.
    var roots: [LLVMValueRef] = []
    var fields: [LLVMValueRef: [Field]] = [:]
    for load in wave {
      var root = load.operand(0)
      var offset = 0
      while root.isStep, let step = root.step(layout) {
        offset &+= step
        root = root.operand(0)
      }
      let natural = Int(LLVMABIAlignmentOfType(layout, load.type))
      LLVMSetAlignment(load, UInt32(natural))
      pin(load)
      if fields[root] == nil { roots.append(root) }
      fields[root, default: []].append(
        Field(
          load: load, offset: offset, size: Int(truncatingIfNeeded: LLVMStoreSizeOfType(layout, load.type)),
          alignment: natural))
    }
    let first = wave[0]
    let builder = IRBuilder(before: first, context: context)
    for root in roots {
      for group in groups(fields[root] ?? []) { check(group, of: root, builder, layout, module) }
    }
    var last = first
    for load in wave.dropFirst() {
      guard let next = LLVMGetNextInstruction(last) else { break }
      if next != load {
        LLVMInstructionRemoveFromParent(load)
        let after = IRBuilder(before: next, context: context)
        LLVMInsertIntoBuilder(after.builder, load)
      }
      last = load
    }
  }

  /// A load of something that lies at a constant distance from what it is part of.
  private struct Field {
    let load: LLVMValueRef
    let offset: Int
    let size: Int
    let alignment: Int
  }

  /// The most bytes that the fields of one check may be apart: a lane keeps as many, for those that are in two pieces.
  private static let mostReach = 1024

  /// Cuts fields into groups that are close together.
  ///
  /// One whose alignment does not follow from its root's is alone.
  private func groups(_ fields: [Field]) -> [[Field]] {
    var groups = fields.filter { $0.offset % $0.alignment != 0 }.map { [$0] }
    var group: [Field] = []
    for field in fields.filter({ $0.offset % $0.alignment == 0 }).sorted(by: { $0.offset < $1.offset }) {
      if let first = group.first, field.offset + field.size - first.offset > Self.mostReach {
        groups.append(group)
        group = []
      }
      group.append(field)
    }
    return group.isEmpty ? groups : groups + [group]
  }

  /// Has one check find out where all fields of a group can be loaded from.
  private func check(
    _ group: [Field], of root: LLVMValueRef, _ builder: borrowing IRBuilder, _ layout: LLVMTargetDataRef?,
    _ module: borrowing IRModule
  ) {
    guard group.count > 1, let start = group.map(\.offset).min(), let end = group.map({ $0.offset + $0.size }).max(),
      let alignment = group.map(\.alignment).max()
    else {
      let function = module.function(
        "grass_load_at", builder.pointer, [builder.pointer, builder.i64, builder.i64, builder.i64])
      for field in group {
        let place = builder.call(
          function,
          [run, builder.address(field.load.operand(0)), builder.number(field.size), builder.number(field.alignment)])
        LLVMSetOperand(field.load, 0, place)
      }
      return
    }
    // So that fields are aligned where they are copied to as they are in the kernel.
    let base = start - (start % 16 + 16) % 16
    let entryBuilder = IRBuilder(before: LLVMGetFirstInstruction(LLVMGetEntryBasicBlock(entry)), context: context)
    let staging: LLVMValueRef = LLVMBuildAlloca(
      entryBuilder.builder, LLVMArrayType2(LLVMIntTypeInContext(context, 128), UInt64((end - base + 15) / 16)), "")
    LLVMSetAlignment(staging, 16)
    let table = module.constant(group.flatMap { [$0.offset, $0.size, $0.alignment] }, context: context)
    let function = module.function(
      "grass_reach", builder.pointer,
      [
        builder.pointer, builder.i64, builder.i64, builder.i64, builder.i64, builder.pointer, builder.i64,
        builder.pointer,
      ])
    let place = builder.call(
      function,
      [
        run, builder.address(root), builder.number(base), builder.number(end - base), builder.number(alignment), table,
        builder.number(group.count), staging,
      ])
    for field in group {
      LLVMSetOperand(field.load, 0, builder.add(place, builder.number(field.offset - base)))
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
      if LLVMGetVolatile(load) == 0 { pin(load) }
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

  /// The mark of loads of watched memory that are volatile, but not because the monitor says so.
  static let pinned = "grass.pinned"

  /// Keeps LLVM from loading a second time what may have changed by then.
  private func pin(_ load: LLVMValueRef) {
    LLVMSetVolatile(load, 1)
    load.mark(Self.pinned, in: context)
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
