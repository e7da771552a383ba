import CLLVM

/// Rule 4: a monitor calls its own functions and the runtime's, never in a circle; all its functions become one.
struct Calls {
  let monitor: String
  let context: LLVMContextRef

  static let runtime: Set<String> = [
    "grass_emit", "grass_lane", "grass_lanes", "grass_argument", "grass_memory_start", "grass_memory_size",
    "grass_physical", "grass_stage", "grass_item", "grass_next", "grass_recall", "grass_remember",
    "grass_count",
  ]
  /// LLVM's own functions that compute and do nothing else, by the start of their names.
  private static let intrinsics = [
    "lifetime.", "dbg.", "memcpy.", "memmove.", "memset.", "expect.", "assume", "ctpop.", "ctlz.", "cttz.", "bswap.",
    "bitreverse.", "umin.", "umax.", "smin.", "smax.", "abs.", "fshl.", "fshr.", "uadd.", "usub.", "umul.", "sadd.",
    "ssub.", "smul.", "ushl.", "sshl.", "is.constant.", "objectsize.",
  ]

  /// Finds the entry, judges every call, and merges all functions into the entry.
  func apply(to module: borrowing IRModule) throws(LLViewError) -> LLVMValueRef {
    let defined = module.functions.filter { !$0.isDeclaration }
    let entries = defined.filter { LLVMGetSection($0).map { String(cString: $0) } == "grass/monitor" }
    guard entries.count == 1 else {
      throw LLViewError(monitor, .badModule("it defines \(entries.count) monitors; define one with MONITOR(name)"))
    }
    let entry = entries[0]
    guard LLVMCountParams(entry) == 1,
      LLVMGetTypeKind(LLVMGetReturnType(LLVMGlobalGetValueType(entry))) == LLVMVoidTypeKind
    else { throw LLViewError(monitor, .badModule("its entry is not made with MONITOR(name)")) }
    var calls: [LLVMValueRef: [LLVMValueRef]] = [:]
    for function in defined {
      for instruction in function.instructions {
        guard LLVMIsACallInst(instruction) != nil else {
          try judge(instruction, in: function)
          continue
        }
        guard let callee = instruction.callee else {
          throw refused("function '\(function.name)' calls through a pointer or contains assembly")
        }
        if !callee.isDeclaration {
          calls[function, default: []].append(callee)
        } else if callee.name.hasPrefix("llvm.") {
          let name = callee.name.dropFirst("llvm.".count)
          guard Self.intrinsics.contains(where: { name.hasPrefix($0) }) else {
            throw refused("function '\(function.name)' uses \(callee.name)")
          }
        } else if !Self.runtime.contains(callee.name), callee.name != GlobalBinding.marker,
          !callee.name.hasPrefix(FieldRelocation.marker)
        {
          throw refused("function '\(function.name)' calls '\(callee.name)', which monitors cannot call")
        }
      }
    }
    try refuseRecursion(from: entry, calls)
    for function in defined { prepare(function, isEntry: function == entry) }
    return entry
  }

  private func judge(_ instruction: LLVMValueRef, in function: LLVMValueRef) throws(LLViewError) {
    switch instruction.opcode {
    case LLVMAtomicRMW, LLVMAtomicCmpXchg, LLVMFence, LLVMIndirectBr, LLVMInvoke, LLVMCallBr, LLVMVAArg:
      throw refused("function '\(function.name)' uses an atomic operation or a computed jump")
    default: break
    }
  }

  private func refuseRecursion(
    from entry: LLVMValueRef, _ calls: [LLVMValueRef: [LLVMValueRef]]
  ) throws(LLViewError) {
    var finished: Set<LLVMValueRef> = []
    var path: [LLVMValueRef] = []
    func visit(_ function: LLVMValueRef) throws(LLViewError) {
      if finished.contains(function) { return }
      if path.contains(function) { throw refused("function '\(function.name)' calls itself") }
      path.append(function)
      for callee in calls[function] ?? [] { try visit(callee) }
      path.removeLast()
      finished.insert(function)
    }
    for function in [entry] + calls.keys { try visit(function) }
  }

  private func prepare(_ function: LLVMValueRef, isEntry: Bool) {
    let whole = LLVMAttributeIndex(bitPattern: -1)
    func kind(_ name: String) -> UInt32 { LLVMGetEnumAttributeKindForName(name, name.utf8.count) }
    for name in ["noinline", "optnone", "optsize", "minsize", "mustprogress", "noreturn"] {
      LLVMRemoveEnumAttributeAtIndex(function, whole, kind(name))
    }
    LLVMRemoveStringAttributeAtIndex(function, whole, "frame-pointer", 13)
    // An address that happens to be null is followed like any other: its fault is found when it runs.
    LLVMAddAttributeAtIndex(
      function, whole, LLVMCreateEnumAttribute(context, kind("null_pointer_is_valid"), 0))
    if isEntry {
      LLVMSetLinkage(function, LLVMExternalLinkage)
      LLVMSetSection(function, nil)
    } else {
      LLVMAddAttributeAtIndex(function, whole, LLVMCreateEnumAttribute(context, kind("alwaysinline"), 0))
      LLVMSetLinkage(function, LLVMInternalLinkage)
    }
  }

  private func refused(_ why: String) -> LLViewError { LLViewError(monitor, .refused(why)) }
}
