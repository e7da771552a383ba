import CLLVM

/// Rule 6: every loop counts its passes, and ends the run when none are left or something failed.
///
/// A jump back to a block that is on the way from the entry closes a loop; every cycle has one. The jump becomes a
/// switch whose third way out is the end of the run, so no other block hears of a new predecessor.
struct LoopBudget {
  let context: LLVMContextRef

  func apply(to entry: LLVMValueRef, in module: borrowing IRModule) {
    let ends = loopEnds(of: entry)
    guard !ends.isEmpty, let ended = LLVMAppendBasicBlockInContext(context, entry, "ended") else { return }
    let end = IRBuilder(atEndOf: ended, context: context)
    LLVMBuildRetVoid(end.builder)
    for block in ends {
      guard let jump = LLVMGetBasicBlockTerminator(block) else { continue }
      let builder = IRBuilder(before: jump, context: context)
      let step = module.function("grass_step", builder.i1, [builder.pointer])
      let goesOn = builder.call(step, [LLVMGetParam(entry, 0)])
      let count = Int(LLVMGetNumSuccessors(jump))
      let targets = (0..<count).map { LLVMGetSuccessor(jump, UInt32($0)) }
      if count == 1 {
        LLVMBuildCondBr(builder.builder, goesOn, targets[0], ended)
      } else {
        // Of a branch, successor 0 is taken where the condition holds.
        let chosen = LLVMBuildSelect(builder.builder, LLVMGetCondition(jump), builder.number(0), builder.number(1), "")
        let way = LLVMBuildSelect(builder.builder, goesOn, chosen, builder.number(2), "")
        let ways = LLVMBuildSwitch(builder.builder, way, ended, 2)
        for (index, target) in targets.enumerated() { LLVMAddCase(ways, builder.number(index), target) }
      }
      LLVMInstructionEraseFromParent(jump)
    }
  }

  /// The blocks that jump back, found depth first without recursion.
  private func loopEnds(of entry: LLVMValueRef) -> [LLVMBasicBlockRef] {
    func successors(_ block: LLVMBasicBlockRef) -> [LLVMBasicBlockRef] {
      guard let jump = LLVMGetBasicBlockTerminator(block) else { return [] }
      return (0..<LLVMGetNumSuccessors(jump)).compactMap { LLVMGetSuccessor(jump, $0) }
    }
    guard let first = LLVMGetEntryBasicBlock(entry) else { return [] }
    var ends: [LLVMBasicBlockRef] = []
    var seen: Set<LLVMBasicBlockRef> = [first]
    var isOnPath: Set<LLVMBasicBlockRef> = [first]
    var path = [(block: first, next: successors(first)[...])]
    while let (block, next) = path.last {
      guard let successor = next.first else {
        isOnPath.remove(block)
        path.removeLast()
        continue
      }
      path[path.count - 1].next = next.dropFirst()
      if isOnPath.contains(successor) {
        if ends.last != block, !ends.contains(block) { ends.append(block) }
      } else if seen.insert(successor).inserted {
        isOnPath.insert(successor)
        path.append((successor, successors(successor)[...]))
      }
    }
    return ends
  }
}
