import CLLVM

// Short names for what every rule asks of LLVM's values.

extension LLVMValueRef {
  var blocks: [LLVMBasicBlockRef] { collect(LLVMGetFirstBasicBlock(self), LLVMGetNextBasicBlock) }
  var instructions: [LLVMValueRef] {
    blocks.flatMap { collect(LLVMGetFirstInstruction($0), LLVMGetNextInstruction) }
  }
  var users: [LLVMValueRef] { collect(LLVMGetFirstUse(self), LLVMGetNextUse).compactMap { LLVMGetUser($0) } }
  var operandCount: Int { Int(LLVMGetNumOperands(self)) }
  func operand(_ index: Int) -> LLVMValueRef { LLVMGetOperand(self, UInt32(index)) }
  var opcode: LLVMOpcode { LLVMGetInstructionOpcode(self) }
  var isInstruction: Bool { LLVMIsAInstruction(self) != nil }
  var type: LLVMTypeRef { LLVMTypeOf(self) }
  var isDeclaration: Bool { LLVMIsDeclaration(self) != 0 }

  var name: String {
    var length = 0
    guard let name = LLVMGetValueName2(self, &length) else { return "" }
    return String(decoding: UnsafeRawBufferPointer(start: name, count: length), as: UTF8.self)
  }

  /// The function that a call names, nil for a call of a pointer.
  var callee: LLVMValueRef? {
    guard LLVMIsACallInst(self) != nil, let called = LLVMGetCalledValue(self) else { return nil }
    return LLVMIsAFunction(called)
  }

  /// The value of a constant integer of up to 64 bits.
  var constant: Int64? { LLVMIsAConstantInt(self) == nil ? nil : LLVMConstIntGetSExtValue(self) }

  func metadata(_ kind: String, in context: LLVMContextRef) -> LLVMValueRef? {
    LLVMGetMetadata(self, LLVMGetMDKindIDInContext(context, kind, UInt32(kind.utf8.count)))
  }

  /// Gives an instruction metadata without contents: a mark, which LLVM's passes keep or drop.
  func mark(_ kind: String, in context: LLVMContextRef) {
    let node = LLVMMetadataAsValue(context, LLVMMDNodeInContext2(context, nil, 0))
    LLVMSetMetadata(self, LLVMGetMDKindIDInContext(context, kind, UInt32(kind.utf8.count)), node)
  }

  /// Whether it computes an address from another one, as an instruction or a constant.
  var isStep: Bool {
    LLVMIsAGetElementPtrInst(self) != nil
      || (LLVMIsAConstantExpr(self) != nil && LLVMGetConstOpcode(self) == LLVMGetElementPtr)
  }

  /// What an address was computed from, by steps.
  var stepsRoot: LLVMValueRef {
    var value = self
    while value.isStep { value = value.operand(0) }
    return value
  }

  /// The distance that a step goes, where it is constant.
  func step(_ layout: LLVMTargetDataRef?) -> Int? {
    var type: LLVMTypeRef = LLVMGetGEPSourceElementType(self)
    var distance = 0
    for index in 1..<operandCount {
      guard let constant = operand(index).constant else { return nil }
      if index > 1, LLVMGetTypeKind(type) == LLVMStructTypeKind {
        distance &+= Int(truncatingIfNeeded: LLVMOffsetOfElement(layout, type, UInt32(truncatingIfNeeded: constant)))
        type = LLVMStructGetTypeAtIndex(type, UInt32(truncatingIfNeeded: constant))
        continue
      }
      if index > 1 {
        guard LLVMGetTypeKind(type) == LLVMArrayTypeKind else { return nil }
        type = LLVMGetElementType(type)
      }
      distance &+= Int(constant) &* Int(truncatingIfNeeded: LLVMABISizeOfType(layout, type))
    }
    return distance
  }

  /// Puts `value` everywhere this instruction is used, and removes the instruction.
  func replace(with value: LLVMValueRef) {
    LLVMReplaceAllUsesWith(self, value)
    LLVMInstructionEraseFromParent(self)
  }
}

/// A node of debug information: what clang says of a type or a member.
struct DebugType {
  let node: LLVMValueRef

  private var metadata: LLVMMetadataRef { LLVMValueAsMetadata(node) }
  private var operands: [LLVMValueRef?] {
    var operands = [LLVMValueRef?](repeating: nil, count: Int(LLVMGetMDNodeNumOperands(node)))
    LLVMGetMDNodeOperands(node, &operands)
    return operands
  }
  private func operand(_ index: Int) -> LLVMValueRef? {
    let operands = operands
    return index < operands.count ? operands[index] : nil
  }

  // Operands of DIType: 0 file, 1 scope, 2 name, 3 base type; of a composite 4 elements; of a member 4 extra data.
  var name: String {
    var length: UInt32 = 0
    guard let string = operand(2), let text = LLVMGetMDString(string, &length) else { return "" }
    return String(decoding: UnsafeRawBufferPointer(start: text, count: Int(length)), as: UTF8.self)
  }

  func element(_ index: Int) -> DebugType? {
    guard let elements = operand(4).map(DebugType.init)?.operands, index < elements.count else { return nil }
    return elements[index].map(DebugType.init)
  }

  /// The type behind typedefs and qualifiers.
  var unqualified: DebugType {
    var type = self
    for _ in 0..<32 where LLVMGetMetadataKind(type.metadata) == LLVMMetadataKind(LLVMDIDerivedTypeMetadataKind) {
      guard let base = type.operand(3) else { break }
      type = DebugType(node: base)
    }
    return type
  }

  /// Bits of the type or, for a bit field, of the member.
  var bits: Int { Int(LLVMDITypeGetSizeInBits(metadata)) }
  var isBitField: Bool { LLVMDITypeGetFlags(metadata).rawValue & LLVMDIFlagBitField.rawValue != 0 }
  /// How far a bit field's lowest bit lies from the lowest bit of what clang loads for it.
  var bitOffsetInStorage: Int {
    let storage = operand(4)?.constant ?? 0
    return Int(LLVMDITypeGetOffsetInBits(metadata)) - Int(storage)
  }
}

/// Emits instructions in front of one that is there.
///
/// Owns LLVM's builder.
struct IRBuilder: ~Copyable {
  let builder: LLVMBuilderRef
  let context: LLVMContextRef

  init(before instruction: LLVMValueRef, context: LLVMContextRef) {
    builder = LLVMCreateBuilderInContext(context)
    self.context = context
    LLVMPositionBuilderBefore(builder, instruction)
  }

  init(atEndOf block: LLVMBasicBlockRef, context: LLVMContextRef) {
    builder = LLVMCreateBuilderInContext(context)
    self.context = context
    LLVMPositionBuilderAtEnd(builder, block)
  }

  deinit { LLVMDisposeBuilder(builder) }

  var i1: LLVMTypeRef { LLVMInt1TypeInContext(context) }
  var i8: LLVMTypeRef { LLVMInt8TypeInContext(context) }
  var i32: LLVMTypeRef { LLVMInt32TypeInContext(context) }
  var i64: LLVMTypeRef { LLVMInt64TypeInContext(context) }
  var pointer: LLVMTypeRef { LLVMPointerTypeInContext(context, 0) }
  func number(_ value: Int) -> LLVMValueRef { LLVMConstInt(i64, UInt64(bitPattern: Int64(value)), 0) }
  var null: LLVMValueRef { LLVMConstNull(pointer) }

  func add(_ base: LLVMValueRef, _ offset: LLVMValueRef) -> LLVMValueRef {
    var index: LLVMValueRef? = offset
    return LLVMBuildGEP2(builder, i8, base, &index, 1, "")
  }

  func address(_ pointer: LLVMValueRef) -> LLVMValueRef { LLVMBuildPtrToInt(builder, pointer, i64, "") }

  func call(_ function: LLVMValueRef, _ arguments: [LLVMValueRef?]) -> LLVMValueRef {
    var arguments = arguments
    return LLVMBuildCall2(
      builder, LLVMGlobalGetValueType(function), function, &arguments, UInt32(arguments.count), "")
  }

  /// Any integer as 64 bits, sign-extended: an index.
  func wide(_ index: LLVMValueRef) -> LLVMValueRef { LLVMBuildIntCast2(builder, index, i64, 1, "") }
}
