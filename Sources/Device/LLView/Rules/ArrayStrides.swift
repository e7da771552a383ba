import CLLVM

/// Rule 2: stepping through an array of kernel structs goes by the kernel's size of the struct, not the declaration's.
struct ArrayStrides {
  let structures: [LLVMTypeRef: Int]
  let monitor: String
  let context: LLVMContextRef

  func apply(to module: borrowing IRModule) throws(LLViewError) {
    let layout = LLVMGetModuleDataLayout(module.module)
    for instruction in module.functions.flatMap(\.instructions) {
      if LLVMIsAAllocaInst(instruction) != nil, kernelSize(LLVMGetAllocatedType(instruction), layout) != nil {
        throw LLViewError(
          monitor, .refused("it keeps a whole kernel struct in a variable, which its declaration lists only in part"))
      }
      for index in 0..<instruction.operandCount {
        let operand = instruction.operand(index)
        if LLVMIsAConstantExpr(operand) != nil, LLVMGetConstOpcode(operand) == LLVMGetElementPtr,
          kernelSize(LLVMGetGEPSourceElementType(operand), layout) != nil
        {
          throw LLViewError(
            monitor, .refused("it indexes a global array of kernel structs by a constant; take it through a pointer"))
        }
      }
      guard LLVMIsAGetElementPtrInst(instruction) != nil else { continue }
      var type: LLVMTypeRef = LLVMGetGEPSourceElementType(instruction)
      guard kernelSize(type, layout) != nil else { continue }
      let builder = IRBuilder(before: instruction, context: context)
      var address = instruction.operand(0)
      for index in 1..<instruction.operandCount {
        if index > 1 {
          guard LLVMGetTypeKind(type) == LLVMArrayTypeKind else {
            throw LLViewError(monitor, .refused("it computes a kernel field's address by hand"))
          }
          type = LLVMGetElementType(type)
        }
        let stride = kernelSize(type, layout) ?? Int(LLVMABISizeOfType(layout, type))
        let distance = LLVMBuildMul(
          builder.builder, builder.wide(instruction.operand(index)), builder.number(stride), "")
        if let distance { address = builder.add(address, distance) }
      }
      instruction.replace(with: address)
    }
  }

  /// The kernel's size of a kernel struct, or of an array of them; nil for any other type.
  private func kernelSize(_ type: LLVMTypeRef, _ layout: LLVMTargetDataRef?) -> Int? {
    if let size = structures[type] { return size }
    guard LLVMGetTypeKind(type) == LLVMArrayTypeKind, let element = LLVMGetElementType(type) else { return nil }
    return kernelSize(element, layout).map { $0 &* Int(truncatingIfNeeded: LLVMGetArrayLength2(type)) }
  }
}
