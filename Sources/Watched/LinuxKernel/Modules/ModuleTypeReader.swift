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

  /// What leads to the types; nil where the kernel keeps none.
  private let source: Source?

  private struct Source: Sendable {
    let head: VirtualAddress
    let link: Int
    let entry: FieldSelection
    let information: FieldSelection.Field
    let content: FieldSelection
    let data, size: FieldSelection.Field
  }

  /// More modules than any host loads.
  private static let most = 20_000
  /// More bytes than the types of any module have, and those of all modules together.
  private static let largest: UInt64 = 1 << 24
  private static let budget: UInt64 = 1 << 28

  init(kernel: Kernel) throws {
    guard let head = kernel.symbols.address(of: "btf_modules") else {
      source = nil
      return
    }
    let layout = try kernel.types.structure("btf_module")
    var entry = FieldSelection(layout)
    let information = try entry.want("btf")
    var content = FieldSelection(try kernel.types.structure("btf"))
    let data = try content.want("data")
    let size = try content.want("data_size")
    source = Source(
      head: head, link: try layout.field("list").offset, entry: entry, information: information, content: content,
      data: data, size: size)
  }

  /// The type information of each module that has some.
  ///
  /// Cost: a round trip a module in the list, and two.
  func read(in space: AddressSpace) -> (modules: [(address: VirtualAddress, bytes: [UInt8])], faults: [MemoryFault]) {
    guard let source else { return ([], []) }
    let list = ListWalker(space: space, form: .circular, limit: Self.most).members(ofHeads: [source.head])
    var faults = list.faults
    let entries = space.read(source.entry, at: (list.lists.first ?? []).map { $0 - source.link })
    var owners: [VirtualAddress] = []
    for index in entries.indices {
      do throws(MemoryFault) {
        owners.append(try entries.pointer(index, source.information))
      } catch {
        faults.append(error)
      }
    }
    let contents = space.read(source.content, at: owners)
    var batch = ReadBatch<VirtualAddress>()
    var read: [(address: VirtualAddress, entry: Int)] = []
    var left = Self.budget
    for index in contents.indices {
      do throws(MemoryFault) {
        let count = try contents.load(index, source.size)
        guard count <= Self.largest, count <= left else {
          throw MemoryFault(.virtual(owners[index]), .inconsistent("types of a module of \(count) bytes"))
        }
        left -= count
        read.append((owners[index], batch.add(try contents.pointer(index, source.data), count: Int(count))))
      } catch {
        faults.append(error)
      }
    }
    space.read(&batch)
    var modules: [(address: VirtualAddress, bytes: [UInt8])] = []
    for item in read {
      do throws(MemoryFault) {
        modules.append((item.address, try batch.reader(item.entry).copy()))
      } catch {
        faults.append(error)
      }
    }
    return (modules, faults)
  }
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
    let reader = try reader(ModuleTypeReader.self)
    return try settled(\.faults) { () throws(KernelError) in
      var (modules, faults) = reader.read(in: addressSpace)
      let joined = try KernelError.reading(subject(of: ModuleTypeReader.self)) {
        try types.adding(modules: modules.map(\.bytes))
      }
      for refusal in joined.refused {
        faults.append(MemoryFault(.virtual(modules[refusal.index].address), .inconsistent("\(refusal.reason)")))
      }
      return (joined.types, faults)
    }
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
