import Binding
public import KernelInfo
public import Memory
import Paging

/// Reads the type information of loaded modules.
///
/// ```
/// btf_modules → btf_module … → btf: its bytes, as the module's file has them
/// ```
/// Kernels until 5.10 keep none. Source: kernel/bpf/btf.c, `btf_module_notify`.
struct ModuleTypeReader: KernelReader {
  static let subject = "the types of modules"

  private struct Module: KernelShape {
    static let type = "btf_module"
    let link = Place("list")
    let information = Field<VirtualAddress>("btf")
  }

  private struct Information: KernelShape {
    static let type = "btf"
    let data = Field<VirtualAddress>("data")
    let size = Field<UInt64>("data_size")
  }

  /// What leads to the types; nil where the kernel keeps none.
  private let source: (head: VirtualAddress, module: Bound<Module>, information: Bound<Information>)?

  /// More modules than any host loads.
  private static let most = 20_000
  /// More bytes than the types of any module have, and those of all modules together.
  private static let largest: UInt64 = 1 << 24
  private static let budget: UInt64 = 1 << 28

  init(kernel: Kernel) throws {
    let types = kernel.types
    source = try kernel.symbols.address(of: "btf_modules").map { ($0, try Bound(types), try Bound(types)) }
  }

  /// The type information of each module that has some.
  ///
  /// Cost: a round trip a module in the list, and two.
  func read(in space: AddressSpace) -> (modules: [(address: VirtualAddress, bytes: [UInt8])], faults: [MemoryFault]) {
    guard let source else { return ([], []) }
    var faults: [MemoryFault] = []
    let listed = space.list(of: source.module, through: \.link, head: source.head, limit: Self.most, &faults)
    let places = listed.compactMap(&faults) { (module) throws(MemoryFault) in try module.information }
    var batch = ReadBatch<VirtualAddress>()
    var left = Self.budget
    let found = space.read(source.information, at: places).compactMap(&faults) { (module) throws(MemoryFault) in
      let count = try module.size
      guard count <= Self.largest, count <= left else {
        throw MemoryFault(.virtual(module.address), .inconsistent("types of a module of \(count) bytes"))
      }
      left -= count
      return (module.address, batch.add(try module.data, count: Int(count)))
    }
    space.read(&batch)
    let modules = found.compactMap { address, entry in
      faults.keep { () throws(MemoryFault) in (address: address, bytes: try batch.reader(entry).copy()) }
    }
    return (modules, faults)
  }
}

/// The kernel's types with those of modules.
private struct JoinedTypes: Faulted {
  var types: TypeTable
  var faults: [MemoryFault]
}

extension Kernel {
  /// The kernel's types with those of the modules that are loaded, and why those of some are missing.
  ///
  /// A kernel that keeps no types of modules (5.10 and before) has its own only. Where several have a type of one name, the
  /// kernel's own comes first.
  ///
  /// Cost: a round trip a module and a few more, and that of parsing the kernel's types anew.
  ///
  /// - Throws: ``KernelError`` where this kernel lacks what leads to them.
  public func typesWithModules() throws(KernelError) -> (types: TypeTable, faults: [MemoryFault]) {
    let joined = try read(with: ModuleTypeReader.self) { reader in
      let (modules, faults) = reader.read(in: addressSpace)
      let joined = try types.adding(modules: modules.map(\.bytes))
      let refusals = joined.refused.map { refusal in
        MemoryFault(.virtual(modules[refusal.index].address), .inconsistent("\(refusal.reason)"))
      }
      return JoinedTypes(types: joined.types, faults: faults + refusals)
    }
    return (joined.types, joined.faults)
  }

  /// The type called `name`: the kernel's own, or else that of a module.
  ///
  /// - Throws: ``KernelError`` where none has one, which names what could not be read of them. Cost: none for the kernel's
  ///   own types, otherwise that of ``typesWithModules()``.
  public func type(_ name: String) throws(KernelError) -> KernelType {
    let refusal: KernelInfoError
    do throws(KernelInfoError) {
      return try types.type(name)
    } catch {
      refusal = error
    }
    let (types, faults) = try typesWithModules()
    do throws(KernelInfoError) {
      return try types.type(name)
    } catch {
      if let fault = faults.first { throw KernelError(subject(of: ModuleTypeReader.self), .memory(fault)) }
      throw KernelError("the type '\(name)'", .info(refusal))
    }
  }
}
