package import KernelInfo

extension TypeTable {
  /// Binds shapes: those whose ``Bound`` the results are assigned to.
  ///
  /// ```swift
  /// (task, files, table) = try types.bind()
  /// ```
  ///
  /// - Throws: as ``Bound/init(_:as:)`` does for the first that cannot be bound.
  package func bind<each Shape: KernelShape>() throws(KernelInfoError) -> (repeat Bound<each Shape>) {
    try (repeat (each Shape).bound(to: self))
  }
}

extension KernelShape {
  fileprivate static func bound(to types: TypeTable) throws(KernelInfoError) -> Bound<Self> { try Bound(types) }
}
