import CLLVM

/// Rule 7: no division traps.
///
/// One whose operands do not allow it divides by one instead and ends the run.
struct Division {
  let context: LLVMContextRef

  func apply(to entry: LLVMValueRef, in module: borrowing IRModule) {
    for instruction in entry.instructions {
      let isSigned = instruction.opcode == LLVMSDiv || instruction.opcode == LLVMSRem
      guard isSigned || instruction.opcode == LLVMUDiv || instruction.opcode == LLVMURem,
        LLVMGetTypeKind(instruction.type) == LLVMIntegerTypeKind
      else { continue }
      let divisor = instruction.operand(1)
      if let constant = divisor.constant, constant != 0, constant != -1 { continue }
      let builder = IRBuilder(before: instruction, context: context)
      let type = instruction.type
      var isBad: LLVMValueRef = LLVMBuildICmp(builder.builder, LLVMIntEQ, divisor, LLVMConstInt(type, 0, 0), "")
      if isSigned {
        // The smallest number divided by minus one.
        let smallest = LLVMConstInt(type, 1 << UInt64(min(64, LLVMGetIntTypeWidth(type)) - 1), 0)
        let isMinusOne = LLVMBuildICmp(builder.builder, LLVMIntEQ, divisor, LLVMConstAllOnes(type), "")
        let isSmallest = LLVMBuildICmp(builder.builder, LLVMIntEQ, instruction.operand(0), smallest, "")
        let overflows = LLVMBuildAnd(builder.builder, isMinusOne, isSmallest, "")
        isBad = LLVMBuildOr(builder.builder, isBad, overflows, "")
      }
      let report = module.function(
        "grass_bad_division", LLVMVoidTypeInContext(context), [builder.pointer, builder.i1])
      _ = builder.call(report, [LLVMGetParam(entry, 0), isBad])
      LLVMSetOperand(
        instruction, 1, LLVMBuildSelect(builder.builder, isBad, LLVMConstInt(type, 1, 0), divisor, ""))
    }
  }
}
