package import LinuxKernel
package import Memory

/// A view without options that is no more than its columns, and one function that reads its rows.
package protocol DeclaredView: KernelView where Options == NoOptions {
  static var columns: [ViewColumn<Row>] { get }

  /// Reads the rows once; where something of them was torn, it is called again.
  ///
  /// - Throws: whatever makes the whole answer impossible; what does not is appended to `faults`.
  static func read(_ kernel: Kernel, _ faults: inout [MemoryFault]) throws -> [Row]
}

extension DeclaredView {
  package static func columns(_ options: NoOptions) -> [ViewColumn<Row>] { columns }

  package static func rows(of kernel: Kernel, _ options: NoOptions) throws(KernelError) -> ViewRows<Row> {
    try settled(\.faults) { () throws(KernelError) in
      var faults: [MemoryFault] = []
      let rows = try KernelError.reading("the view '\(name)' of Linux \(kernel.release)") { try read(kernel, &faults) }
      return ViewRows(rows, faults: faults)
    }
  }
}
