import CLLVM

/// The program of a device: all its monitors, bound to one kernel, as one piece of code.
///
/// For this machine's processor it is a shared object, which exports `grass_dispatch`, `grass_names`, `grass_count`, `grass_forms` and
/// `grass_kernel`. For a GPU it is PTX that starts with comments which say the same, and holds the resident program, too.
/// Neither needs LLVM any more.
public struct DeviceProgram {
  /// Puts monitors together.
  ///
  /// Cost: some hundred milliseconds.
  ///
  /// - Parameters:
  ///   - monitors: all bound to the same kernel, each with a name of its own of up to 31 bytes.
  ///   - target: the processor or GPU.
  ///   - hasKeys: whether a GPU is to serve a region with keys, and no other; a processor serves both.
  /// - Returns: a shared object, or PTX.
  /// - Throws: ``LLViewError`` where two monitors have one name, or LLVM or the linker fails.
  public static func code(_ monitors: [BoundMonitor], for target: Target, hasKeys: Bool = false) throws(LLViewError)
    -> [UInt8]
  {
    let names = monitors.map(\.name)
    for (index, name) in names.enumerated() {
      guard name.utf8.count < 32, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x5c }) else {
        throw LLViewError(name, .refused("its name is not 1 to 31 letters, digits and underscores"))
      }
      guard !names[..<index].contains(name) else { throw LLViewError(name, .refused("another monitor has its name")) }
    }
    let kernel = monitors.first.map { "\($0.kernel) \($0.build)" } ?? ""
    guard monitors.allSatisfy({ "\($0.kernel) \($0.build)" == kernel }) else {
      throw LLViewError(names.joined(separator: ", "), .refused("these are bound to different kernels"))
    }
    let subject = "the device's program"
    let machine = try target.machine(for: subject)
    switch target {
    case .native:
      var module = try IRModule(Array(dispatch(names, exports: exports(monitors, kernel: kernel)).utf8), name: subject)
      machine.adopt(module)
      for monitor in monitors { try add(monitor, to: &module, subject: subject) }
      return try FrontEnd().link(try machine.emit(module, LLVMObjectFile, monitor: subject), name: "program")
    case .nvidia(let capability):
      var module = try IRModule(try (hasKeys ? FrontEnd.residentWithKeys : FrontEnd.resident).get(), name: subject)
      machine.adopt(module)
      try module.link(Array(dispatch(names, exports: annotations).utf8), name: subject)
      for monitor in monitors { try add(monitor, to: &module, subject: subject) }
      for function in module.functions where !function.isDeclaration {
        // What clang thought of the processor when it compiled the parts is not what they run on.
        for attribute in ["target-cpu", "target-features"] {
          LLVMRemoveStringAttributeAtIndex(
            function, LLVMAttributeIndex(bitPattern: -1), attribute, UInt32(attribute.utf8.count))
        }
        if !["grass_resident", "grass_canary"].contains(function.name) {
          LLVMSetLinkage(function, LLVMInternalLinkage)
        }
      }
      let text = try machine.emit(module, LLVMAssemblyFile, monitor: subject, finish: allowCache)
      let head =
        "// grass program 2\n// kernel \(kernel)\n// target sm_\(capability)\n// monitors \(names.joined(separator: " "))\n"
        + "// forms \(monitors.map { String($0.form, radix: 16) }.joined(separator: " "))\n"
        + (hasKeys ? "// keys\n" : "")
      return Array(head.utf8) + text
    }
  }

  /// Lets a GPU answer loads of watched memory from its multiprocessors' caches, which are emptied before each stage:
  /// past them, words of one line of the host's memory come one after the other, a microsecond each.
  ///
  /// What a monitor itself calls volatile does not go there, nor do vectors, with which memory is read through from end
  /// to end.
  private static func allowCache(in module: borrowing IRModule) {
    for instruction in module.functions.flatMap(\.instructions)
    where instruction.opcode == LLVMLoad && instruction.metadata(Translation.pinned, in: module.context) != nil
      && LLVMGetTypeKind(instruction.type) != LLVMVectorTypeKind
    {
      LLVMSetVolatile(instruction, 0)
    }
  }

  private static func add(
    _ monitor: BoundMonitor, to module: inout IRModule, subject: String
  ) throws(LLViewError) {
    try module.link(monitor.bitcode, name: subject)
    // The names of the next one's functions are free again.
    for function in module.functions where function.name == monitor.name && !function.isDeclaration {
      LLVMSetLinkage(function, LLVMInternalLinkage)
    }
  }

  /// `void grass_dispatch(struct grass_lane_state *lane, uint32_t monitor)`: runs the monitor of that number.
  private static func dispatch(_ names: [String], exports: String) -> String {
    let cases = names.indices.map { "    i32 \($0), label %monitor\($0)\n" }.joined()
    let calls = names.enumerated().map { index, name in
      "monitor\(index):\n  call void @\"\(name)\"(ptr %lane)\n  ret void\n"
    }.joined()
    let declarations = names.map { "declare void @\"\($0)\"(ptr)\n" }.joined()
    return """
      \(declarations)
      define void @grass_dispatch(ptr %lane, i32 %monitor) {
        switch i32 %monitor, label %none [
      \(cases)  ]
      \(calls)none:
        ret void
      }
      \(exports)
      """
  }

  private static func exports(_ monitors: [BoundMonitor], kernel: String) -> String {
    let names = monitors.map(\.name)
    func text(_ string: String, size: Int) -> String {
      "[\(size) x i8] c\"\(string)\(String(repeating: "\\00", count: size - string.utf8.count))\""
    }
    let size = kernel.utf8.count + 1
    return """
      @grass_count = constant i32 \(names.count)
      @grass_names = constant [\(names.count) x [32 x i8]] [\(names.map { text($0, size: 32) }.joined(separator: ", "))]
      @grass_forms = constant [\(names.count) x i64] [\(monitors.map { "i64 \(Int64(bitPattern: $0.form))" }.joined(separator: ", "))]
      @grass_kernel = constant \(text(kernel, size: size))
      """
  }

  /// How many threads a block of the resident program has, and that a multiprocessor holds one block of it, so that each
  /// thread gets all the registers there are for it.
  private static let annotations = """
    declare void @grass_resident(ptr)
    !nvvm.annotations = !{!0, !1}
    !0 = !{ptr @grass_resident, !"maxntidx", i32 512}
    !1 = !{ptr @grass_resident, !"minctasm", i32 1}
    """
}
