import Binding
import KernelInfo
import LinuxKernel
import Synchronization

/// The kernel's types with those of its modules, read when somebody asks for one that the kernel itself has not.
///
/// They are kept: a module that is loaded later is of the same build, and has its structs laid out alike.
final class ModuleTypes: KernelReader {
  static let subject = "the types of modules"

  private let kept = Mutex<(table: TypeTable, read: ContinuousClock.Instant)?>(nil)

  init(kernel: Kernel) {}

  /// Types among which is the struct `name`.
  ///
  /// - Throws: ``KernelError`` where neither the kernel nor a module has it, or the kernel keeps none of modules (5.10).
  func types(with name: String, _ kernel: Kernel) throws -> TypeTable {
    if kernel.types.hasStructure(name) { return kernel.types }
    return try kept.withLock { kept in
      // What is asked for in vain is not looked for at each question.
      if let kept, kept.table.hasStructure(name) || ContinuousClock.now - kept.read < .seconds(5) { return kept.table }
      let table = try kernel.typesWithModules().types
      kept = (table, .now)
      return table
    }
  }
}

extension Kernel {
  /// A shape of a struct that a module may bring.
  func moduleBound<Shape: KernelShape>(_ type: Shape.Type = Shape.self) throws -> Bound<Shape> {
    try Bound(reader(ModuleTypes.self).types(with: Shape.type, self))
  }
}
