import CLLVM
import KernelInfo

/// Rule 1: each access to a field of a kernel struct goes where that kernel has the field.
///
/// clang marks such accesses with chains of `llvm.preserve.struct.access.index` whose debug information names struct and
/// field; questions about fields, types and enumerators are calls too. All become constants from the kernel's BTF.
/// What the kernel lacks is an error only where it survives: code behind a `field_exists` that says no is dead.
/// Mirrors what libbpf does when it loads a program (`tools/lib/bpf/relo_core.c`).
struct FieldRelocation {
  let kernel: KernelNames
  let monitor: String
  let context: LLVMContextRef
  /// What is missing, by the number of the marker that stands for it.
  private(set) var missing: [String] = []
  /// The local types of structs whose fields are accessed, and the kernel's size of each.
  private(set) var structures: [LLVMTypeRef: Int] = [:]

  static let marker = "grass.missing."

  /// A chain of accesses: the outermost struct, and the names on the way from it.
  private struct Path {
    var base: LLVMValueRef
    var structure: String
    var parts: [String]
    var member: DebugType?
    var text: String { parts.joined(separator: ".") }
  }
  private var paths: [LLVMValueRef: Path] = [:]

  init(kernel: KernelNames, monitor: String, context: LLVMContextRef) {
    (self.kernel, self.monitor, self.context) = (kernel, monitor, context)
  }

  mutating func apply(to module: borrowing IRModule) throws(LLViewError) {
    let calls = module.functions.flatMap(\.instructions).filter { $0.callee != nil }
    func named(_ prefix: String) -> [LLVMValueRef] { calls.filter { $0.callee?.name.hasPrefix(prefix) ?? false } }

    // All of them before any is replaced: a call that is gone cannot be asked for its name.
    let arrays = named("llvm.preserve.array.access.index")
    let accesses = named("llvm.preserve.struct.access.index") + named("llvm.preserve.union.access.index")
    let fields = named("llvm.bpf.preserve.field.info")
    let types = named("llvm.bpf.preserve.type.info")
    let enumerators = named("llvm.bpf.preserve.enum.value")
    for call in arrays { replaceArrayAccess(call) }
    for call in accesses {
      _ = try path(of: call)
      noteStructure(call)
    }
    for call in fields { try replaceFieldInfo(call, module) }
    for call in types { try replaceTypeInfo(call) }
    for call in enumerators { try replaceEnumerator(call, module) }
    for call in accesses { try relocate(call, module) }
    // Inner accesses served as bases of outer ones; those are computed from the outermost base now.
    for call in accesses.reversed() where LLVMGetFirstUse(call) == nil { LLVMInstructionEraseFromParent(call) }
  }

  /// The error for the first marker that is still in the module.
  func checkMissing(in module: borrowing IRModule) throws(LLViewError) {
    for function in module.functions where function.name.hasPrefix(Self.marker) {
      guard LLVMGetFirstUse(function) != nil else { continue }
      if let number = Int(function.name.dropFirst(Self.marker.count)), number < missing.count {
        throw LLViewError(monitor, kernel: kernel.release, .missing(missing[number]))
      }
    }
  }

  // MARK: Fields

  private mutating func path(of call: LLVMValueRef) throws(LLViewError) -> Path {
    if let known = paths[call] { return known }
    let isUnion = call.callee?.name.hasPrefix("llvm.preserve.union") ?? false
    let composite = call.metadata("llvm.preserve.access.index", in: context).map(DebugType.init)?.unqualified
    guard let composite, let index = call.operand(isUnion ? 1 : 2).constant, let member = composite.element(Int(index))
    else { throw refused("an access to a struct has no debug information; compile with -g") }
    let base = call.operand(0)
    var path: Path
    if LLVMIsACallInst(base) != nil, base.callee?.name.hasPrefix("llvm.preserve.") ?? false {
      path = try self.path(of: base)
    } else {
      guard !composite.name.isEmpty else {
        throw refused("it accesses a struct without a name; reach it through the struct that holds it")
      }
      path = Path(base: base, structure: Self.withoutFlavour(composite.name), parts: [])
    }
    if !member.name.isEmpty { path.parts.append(member.name) }
    path.member = member
    paths[call] = path
    return path
  }

  /// `task_struct___old` declares the same struct as `task_struct`.
  static func withoutFlavour(_ name: String) -> String {
    guard let range = name.firstRange(of: "___"), range.lowerBound > name.startIndex else { return name }
    return String(name[..<range.lowerBound])
  }

  private func field(_ path: Path) throws(KernelInfoError) -> FieldLayout {
    try kernel.types.structure(path.structure).field(path.text)
  }

  private mutating func relocate(_ call: LLVMValueRef, _ module: borrowing IRModule) throws(LLViewError) {
    let path = try path(of: call)
    guard LLVMGetFirstUse(call) != nil else { return }
    let builder = IRBuilder(before: call, context: context)
    if path.parts.isEmpty {
      // An anonymous struct or union as such.
      LLVMReplaceAllUsesWith(call, path.base)
      return
    }
    let field: FieldLayout
    do throws(KernelInfoError) {
      field = try self.field(path)
    } catch {
      LLVMReplaceAllUsesWith(call, missingMarker("\(error)", builder.pointer, builder, module))
      return
    }
    for user in call.users {
      if LLVMIsAStoreInst(user) != nil, user.operand(1) == call {
        throw refused("it stores to field '\(path.text)' of the kernel's struct '\(path.structure)'")
      }
    }
    if let member = path.member, member.isBitField {
      try replaceBitField(call, path, member, field)
      return
    }
    let address = builder.add(path.base, builder.number(field.offset))
    for user in call.users where LLVMIsALoadInst(user) != nil {
      let kind = LLVMGetTypeKind(user.type)
      guard kind == LLVMIntegerTypeKind || kind == LLVMPointerTypeKind else { continue }
      let size = kind == LLVMPointerTypeKind ? 8 : Int(LLVMGetIntTypeWidth(user.type) + 7) / 8
      guard field.bitfield == nil, field.size == size || field.elementCount != nil else {
        let kernelSize = field.bitfield.map { "\($0.size) bits" } ?? "\(field.size) bytes"
        let why = "field '\(path.text)' of struct '\(path.structure)' has \(kernelSize), its declaration \(size) bytes"
        LLVMReplaceAllUsesWith(call, missingMarker(why, builder.pointer, builder, module))
        return
      }
    }
    LLVMReplaceAllUsesWith(call, address)
  }

  /// A bit field is loaded by clang as the local declaration lays it out.
  ///
  /// So what is loaded is made anew: the kernel's bits, moved to where clang looks for them.
  private func replaceBitField(
    _ call: LLVMValueRef, _ path: Path, _ member: DebugType, _ field: FieldLayout
  ) throws(LLViewError) {
    let bits = field.bitfield.map { (offset: $0.offset, size: $0.size) } ?? (offset: 0, size: field.size &* 8)
    for user in call.users {
      guard LLVMIsALoadInst(user) != nil, LLVMGetTypeKind(user.type) == LLVMIntegerTypeKind else {
        throw refused("bit field '\(path.text)' of struct '\(path.structure)' can only be read")
      }
      let width = Int(LLVMGetIntTypeWidth(user.type))
      let place = member.bitOffsetInStorage
      guard place >= 0, member.bits > 0, place + member.bits <= width, field.size <= 8, bits.size <= 64 else {
        throw refused("bit field '\(path.text)' of struct '\(path.structure)' is declared too wide")
      }
      let builder = IRBuilder(before: user, context: context)
      // Byte by byte: the kernel's bits need not lie in one aligned word.
      var value = builder.number(0)
      for byte in 0..<field.size {
        let place = builder.add(path.base, builder.number(field.offset + byte))
        let load = LLVMBuildLoad2(builder.builder, builder.i8, place, "")
        let wide = LLVMBuildZExt(builder.builder, load, builder.i64, "")
        value = LLVMBuildOr(
          builder.builder, value, LLVMBuildShl(builder.builder, wide, builder.number(8 * byte), ""), "")
      }
      value = LLVMBuildLShr(builder.builder, value, builder.number(bits.offset), "")
      let mask = min(bits.size, member.bits)
      if mask < 64 { value = LLVMBuildAnd(builder.builder, value, builder.number((1 << mask) - 1), "") }
      value = LLVMBuildShl(builder.builder, value, builder.number(place), "")
      user.replace(with: LLVMBuildIntCast2(builder.builder, value, user.type, 0, ""))
    }
  }

  /// Kinds as clang's documentation of `__builtin_preserve_field_info` numbers them.
  private mutating func replaceFieldInfo(_ call: LLVMValueRef, _ module: borrowing IRModule) throws(LLViewError) {
    guard let path = paths[call.operand(0)], let kind = call.operand(1).constant else {
      throw refused("it asks about a field that is not one of a kernel struct")
    }
    let builder = IRBuilder(before: call, context: context)
    let value: Int
    do throws(KernelInfoError) {
      let field = try self.field(path)
      let bits = field.bitfield.map { (offset: $0.offset, size: $0.size) } ?? (offset: 0, size: field.size &* 8)
      switch kind {
      case 0: value = field.offset
      case 1: value = field.size
      case 2: value = 1
      case 3: value = field.isSigned ? 1 : 0
      case 4: value = 64 - (bits.offset + bits.size)
      case 5: value = 64 - bits.size
      default: throw KernelInfoError(.missingField(path.text, structure: path.structure), release: kernel.release)
      }
    } catch {
      if kind == 2 {
        call.replace(with: LLVMConstInt(call.type, 0, 0))
      } else {
        call.replace(with: missingMarker("\(error)", call.type, builder, module))
      }
      return
    }
    call.replace(with: LLVMConstInt(call.type, UInt64(bitPattern: Int64(value)), 0))
  }

  // MARK: Types, enumerators, arrays

  private func replaceTypeInfo(_ call: LLVMValueRef) throws(LLViewError) {
    guard let type = call.metadata("llvm.preserve.access.index", in: context).map(DebugType.init)?.unqualified,
      let flag = call.operand(1).constant, flag <= 1
    else { throw refused("it asks about a type in a way that is not known") }
    let layout = try? kernel.types.structure(Self.withoutFlavour(type.name))
    let value = flag == 0 ? (layout == nil ? 0 : 1) : layout?.size ?? 0
    call.replace(with: LLVMConstInt(call.type, UInt64(value), 0))
  }

  private mutating func replaceEnumerator(_ call: LLVMValueRef, _ module: borrowing IRModule) throws(LLViewError) {
    // The second argument is a string such as "PIDTYPE_PID:0".
    var length = 0
    guard LLVMIsAGlobalVariable(call.operand(1)) != nil, let string = LLVMGetInitializer(call.operand(1)),
      LLVMIsConstantString(string) != 0, let bytes = LLVMGetAsString(string, &length),
      let flag = call.operand(2).constant
    else { throw refused("it asks for an enumerator without a name") }
    let text = String(decoding: UnsafeRawBufferPointer(start: bytes, count: length), as: UTF8.self)
    let name = Self.withoutFlavour(String(text.prefix { $0 != ":" && $0 != "\0" }))
    let builder = IRBuilder(before: call, context: context)
    // An enumerator moves from one enum to another now and then: only the one that the program names is meant.
    let owner = call.metadata("llvm.preserve.access.index", in: context).map(DebugType.init)?.unqualified.name ?? ""
    guard let value = kernel.types.enumerator(name, of: owner.isEmpty ? nil : Self.withoutFlavour(owner)) else {
      if flag == 0 {
        call.replace(with: LLVMConstInt(call.type, 0, 0))
      } else {
        let why = KernelInfoError(.missingEnumerator(name), release: kernel.release)
        call.replace(with: missingMarker("\(why)", call.type, builder, module))
      }
      return
    }
    call.replace(with: LLVMConstInt(call.type, flag == 0 ? 1 : UInt64(bitPattern: value), 0))
  }

  /// An access to an array within a chain is plain arithmetic; `ArrayStrides` corrects it.
  private func replaceArrayAccess(_ call: LLVMValueRef) {
    guard let type = elementType(of: call), let dimension = call.operand(1).constant else { return }
    let builder = IRBuilder(before: call, context: context)
    var indices: [LLVMValueRef?] = Array(repeating: builder.number(0), count: Int(dimension))
    indices.append(builder.wide(call.operand(2)))
    call.replace(with: LLVMBuildGEP2(builder.builder, type, call.operand(0), &indices, UInt32(indices.count), ""))
  }

  private func elementType(of call: LLVMValueRef) -> LLVMTypeRef? {
    let kind = LLVMGetEnumAttributeKindForName("elementtype", 11)
    guard let attribute = LLVMGetCallSiteEnumAttribute(call, 1, kind) else { return nil }
    return LLVMGetTypeAttributeValue(attribute)
  }

  private mutating func noteStructure(_ call: LLVMValueRef) {
    guard let type = elementType(of: call), LLVMGetTypeKind(type) == LLVMStructTypeKind,
      let name = call.metadata("llvm.preserve.access.index", in: context).map(DebugType.init)?.unqualified.name,
      !name.isEmpty
    else { return }
    // A struct that the kernel lacks has no accesses that survive, or they are the error.
    structures[type] = (try? kernel.types.structure(Self.withoutFlavour(name)))?.size ?? 0
  }

  // MARK: What is missing

  private mutating func missingMarker(
    _ why: String, _ type: LLVMTypeRef, _ builder: borrowing IRBuilder, _ module: borrowing IRModule
  ) -> LLVMValueRef {
    let function = module.function("\(Self.marker)\(missing.count)", type, [])
    missing.append(why)
    // Without effect, so that it goes wherever the code around it is dead.
    for (name, value) in [("nounwind", 0), ("willreturn", 0), ("memory", 0)] as [(String, UInt64)] {
      let kind = LLVMGetEnumAttributeKindForName(name, name.utf8.count)
      LLVMAddAttributeAtIndex(
        function, LLVMAttributeIndex(bitPattern: -1), LLVMCreateEnumAttribute(context, kind, value))
    }
    return builder.call(function, [])
  }

  private func refused(_ why: String) -> LLViewError { LLViewError(monitor, kernel: kernel.release, .refused(why)) }
}
