import CLLVM

/// Which loads of watched memory can be on their way together.
///
/// A GPU waits more than a microsecond for a word of the watched memory, but can wait for many at once. So loads of a
/// block that do not depend on each other become a wave: they are moved to where the first one is, behind all checks of
/// their addresses. Nothing is moved over a store to the run's output, a call, or a load that the monitor calls volatile.
struct LoadWaves {
  let block: LLVMBasicBlockRef
  /// Where each instruction was; those moved to the front have no place any more.
  private var places: [LLVMValueRef: Int]
  private let instructions: [LLVMValueRef]

  init(_ block: LLVMBasicBlockRef) {
    self.block = block
    instructions = collect(LLVMGetFirstInstruction(block), LLVMGetNextInstruction)
    places = Dictionary(uniqueKeysWithValues: instructions.enumerated().map { ($1, $0) })
  }

  /// The waves, each in its order, with what their addresses are computed from in front of them.
  ///
  /// `loads` are those of the block's loads that are to be translated.
  mutating func waves(of loads: Set<LLVMValueRef>, isBarrier: (LLVMValueRef) -> Bool) -> [[LLVMValueRef]] {
    var waves: [[LLVMValueRef]] = []
    var wave: [LLVMValueRef] = []
    for instruction in instructions {
      if loads.contains(instruction) {
        if let first = wave.first, !hoist(instruction.operand(0), before: first) {
          waves.append(wave)
          wave = []
        }
        wave.append(instruction)
      } else if isBarrier(instruction), !wave.isEmpty {
        waves.append(wave)
        wave = []
      }
    }
    return wave.isEmpty ? waves : waves + [wave]
  }

  /// Moves what a value is computed from in front of a load.
  ///
  /// - Returns: false, with nothing moved, where that cannot be.
  private mutating func hoist(_ value: LLVMValueRef, before load: LLVMValueRef) -> Bool {
    guard let start = places[load] else { return false }
    var found: Set<LLVMValueRef> = []
    var pending = [value]
    while let value = pending.popLast() {
      // Of this block and not yet in front.
      guard let place = places[value], place >= start, !found.contains(value) else { continue }
      guard Self.isPure(value), found.count < 64 else { return false }
      found.insert(value)
      pending += (0..<value.operandCount).map { value.operand($0) }
    }
    // In their order, each is behind what it needs.
    for value in instructions where found.contains(value) {
      LLVMInstructionRemoveFromParent(value)
      let builder = LLVMCreateBuilderInContext(LLVMGetTypeContext(LLVMTypeOf(load)))
      defer { LLVMDisposeBuilder(builder) }
      LLVMPositionBuilderBefore(builder, load)
      LLVMInsertIntoBuilder(builder, value)
      places[value] = nil
    }
    return true
  }

  private static func isPure(_ value: LLVMValueRef) -> Bool {
    if LLVMIsACastInst(value) != nil || LLVMIsAGetElementPtrInst(value) != nil { return true }
    switch value.opcode {
    case LLVMAdd, LLVMSub, LLVMMul, LLVMShl, LLVMLShr, LLVMAShr, LLVMAnd, LLVMOr, LLVMXor, LLVMICmp, LLVMSelect,
      LLVMFreeze:
      return true
    default: return false
    }
  }
}
