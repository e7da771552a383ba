public import Memory

/// Why something is not a kernel, or lacks what was asked for by name.
public struct KernelInfoError: Error, Hashable, Sendable {
  public enum Code: Hashable, Sendable {
    /// The page is not a VMCOREINFO note.
    case notCoreInfo(PhysicalAddress, String)
    /// VMCOREINFO lacks a line, or the line's value is impossible.
    case badCoreInfoLine(String, String)
    /// Part of the kernel image is not in the memory.
    case unreadable(String, MemoryFault)
    /// The kallsyms tables contradict themselves.
    case malformedSymbols(String)
    /// The tables, or the memory they lead to, contradict VMCOREINFO.
    case inconsistent(String)
    /// The note is a copy; the kernel's own lies elsewhere.
    case copiedCoreInfo(original: PhysicalAddress)
    /// BTF contradicts itself.
    case malformedTypes(String)
    case missingSymbol(String)
    /// The kernel lists its functions and none of its variables, and a search of its image lacks something.
    case noDataSymbols(functions: Int, missing: String)
    case missingStructure(String)
    case missingField(String, structure: String)
    case missingEnumerator(String)
  }

  public let code: Code
  /// The kernel's release, where it was known.
  public let release: String?

  public init(_ code: Code, release: String? = nil) {
    self.code = code
    self.release = release
  }
}

extension KernelInfoError: CustomStringConvertible {
  public var description: String {
    // Names come from the watched memory and end on terminals: control characters stay out.
    var text = String.UnicodeScalarView()
    for scalar in message.unicodeScalars {
      text.append(scalar.properties.generalCategory == .control ? "?" : scalar)
    }
    return String(text)
  }

  private var message: String {
    let kernel = release.map { "kernel \($0)" } ?? "the kernel"
    switch code {
    case .notCoreInfo(let address, let why):
      return "no VMCOREINFO note at physical address \(address): \(why); search without a hint"
    case .badCoreInfoLine(let key, let why):
      return
        "VMCOREINFO of \(kernel): \(key) \(why); it is damaged, or of a kernel before 6.0, whose tables are looked for by their form"
    case .unreadable(let what, let fault):
      return "\(what) of \(kernel) could not be read: \(fault); the memory must hold the whole kernel image"
    case .malformedSymbols(let why):
      return "the kallsyms tables of \(kernel) are malformed: \(why); a stale or damaged copy, or a newer format"
    case .inconsistent(let why):
      return "VMCOREINFO of \(kernel) does not fit the memory: \(why); a stale or damaged copy"
    case .copiedCoreInfo(let original):
      return "this VMCOREINFO note of \(kernel) is a copy; the kernel's own is at physical address \(original)"
    case .malformedTypes(let why):
      return "the BTF type information of \(kernel) is malformed: \(why); a stale or damaged copy, or a newer format"
    case .noDataSymbols(let functions, let missing):
      return
        "\(kernel) lists \(functions) functions and no variable: it was built without CONFIG_KALLSYMS_ALL, and a search of its "
        + "image found \(missing)"
    case .missingSymbol(let name):
      return "\(kernel) has no symbol '\(name)'; it may be configured without what defines it"
    case .missingStructure(let name):
      return "\(kernel) has no struct or union '\(name)' in its BTF; it may be configured without what defines it"
    case .missingField(let path, let structure):
      return "struct '\(structure)' of \(kernel) has no field '\(path)'; its form differs from the ones known"
    case .missingEnumerator(let name):
      return "\(kernel) has no enumerator '\(name)' in its BTF; it may be configured without what defines it"
    }
  }
}
