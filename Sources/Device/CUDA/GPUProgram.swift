/// A program compiled for one GPU, not yet on it: making one disturbs nothing that runs there.
public struct GPUCode: Sendable {
  let image: [UInt8]

  /// Compiles PTX with the driver's own compiler.
  ///
  /// Cost: seconds for a large program.
  public init(_ context: GPUContext, ptx: [UInt8]) throws(CUDAError) {
    image = try context.use { driver throws(CUDAError) in
      var log = [CChar](repeating: 0, count: 8192)
      let size = log.count
      var handle: Driver.Handle?
      // CU_JIT_ERROR_LOG_BUFFER and its size.
      var options: [UInt32] = [5, 6]
      var text = ptx + [0]
      var image: [UInt8] = []
      var failure: CUDAError?
      log.withUnsafeMutableBufferPointer { log in
        var values: [UnsafeMutableRawPointer?] = [
          UnsafeMutableRawPointer(log.baseAddress), UnsafeMutableRawPointer(bitPattern: size),
        ]
        text.withUnsafeMutableBytes { text in
          do throws(CUDAError) {
            try driver.check("cuLinkCreate", driver.linkCreate(2, &options, &values, &handle))
            defer { _ = driver.linkDestroy(handle) }
            guard let base = text.baseAddress else { return }
            // CU_JIT_INPUT_PTX.
            try driver.check("cuLinkAddData", driver.linkAddData(handle, 1, base, text.count, "program", 0, nil, nil))
            var result: UnsafeMutableRawPointer?
            var count = 0
            try driver.check("cuLinkComplete", driver.linkComplete(handle, &result, &count))
            image = Array(UnsafeRawBufferPointer(start: result, count: result == nil ? 0 : count))
          } catch {
            failure = error
          }
        }
      }
      if let failure {
        let words = String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        throw CUDAError(.program(words.isEmpty ? "\(failure)" : "\(failure): \(words)"))
      }
      return image
    }
  }
}

/// A program on a GPU.
///
/// Owns it there; nothing of it may run any more when it goes.
public struct GPUProgram: ~Copyable {
  private let context: GPUContext
  private let module: Driver.Handle?

  /// Loads a program.
  ///
  /// The driver may wait for what runs on the GPU.
  public init(_ context: GPUContext, _ code: GPUCode) throws(CUDAError) {
    self.context = context
    module = try context.use { driver throws(CUDAError) in
      var module: Driver.Handle?
      var result: Driver.Result = 0
      code.image.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { result = driver.moduleLoadData(&module, base) }
      }
      try driver.check("cuModuleLoadData", result)
      return module
    }
  }

  deinit {
    let (driver, module) = (context.driver, module)
    try? context.use { _ in _ = driver.moduleUnload(module) }
  }

  /// Blocks of `threads` threads that one multiprocessor holds at once, each with `shared` bytes of shared memory beside what it
  /// names itself.
  ///
  /// - Throws: ``CUDAError`` where no block can have as much.
  public borrowing func blocksPerMultiprocessor(
    _ kernel: String, threads: Int, shared: Int = 0
  ) throws(CUDAError) -> Int {
    let module = module
    return try context.use { driver throws(CUDAError) in
      var function: Driver.Handle?
      try driver.check("cuModuleGetFunction", driver.moduleGetFunction(&function, module, kernel))
      var blocks: Int32 = 0
      try Self.allow(shared, function, driver)
      try driver.check(
        "cuOccupancyMaxActiveBlocksPerMultiprocessor", driver.occupancy(&blocks, function, Int32(threads), shared))
      return Int(blocks)
    }
  }

  /// Lets a kernel's blocks have more shared memory than the 48 KiB that they may have unasked.
  private static func allow(_ shared: Int, _ function: Driver.Handle?, _ driver: Driver) throws(CUDAError) {
    guard shared > 0 else { return }
    // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
    try driver.check("cuFuncSetAttribute", driver.functionSetAttribute(function, 8, Int32(shared)))
  }

  /// Starts a kernel.
  ///
  /// Its parameters are 64-bit words; each block has `shared` bytes of shared memory beside what it names itself.
  public borrowing func launch(
    _ kernel: String, blocks: Int, threads: Int, shared: Int = 0, on stream: borrowing GPUStream, _ parameters: [UInt64]
  ) throws(CUDAError) {
    let module = module
    let queue = stream.handle
    try context.use { driver throws(CUDAError) in
      var function: Driver.Handle?
      try driver.check("cuModuleGetFunction", driver.moduleGetFunction(&function, module, kernel))
      try Self.allow(shared, function, driver)
      var words = parameters
      var result: Driver.Result = 0
      words.withUnsafeMutableBytes { bytes in
        var pointers = parameters.indices.map { index in bytes.baseAddress.map { $0 + index * 8 } }
        result = driver.launch(
          function, UInt32(blocks), 1, 1, UInt32(threads), 1, 1, UInt32(shared), queue, &pointers, nil)
      }
      try driver.check("cuLaunchKernel", result)
    }
  }
}

/// A queue of a GPU's work that waits for no other.
///
/// Owns it.
public struct GPUStream: ~Copyable {
  private let context: GPUContext
  let handle: Driver.Handle?

  public init(_ context: GPUContext) throws(CUDAError) {
    self.context = context
    handle = try context.use { driver throws(CUDAError) in
      var handle: Driver.Handle?
      // CU_STREAM_NON_BLOCKING.
      try driver.check("cuStreamCreate", driver.streamCreate(&handle, 1))
      return handle
    }
  }

  deinit {
    let (driver, handle) = (context.driver, handle)
    try? context.use { _ in _ = driver.streamDestroy(handle) }
  }

  /// Whether all work is done.
  ///
  /// A kernel's failure is thrown.
  public borrowing func isIdle() throws(CUDAError) -> Bool {
    let handle = handle
    return try context.use { driver throws(CUDAError) in
      let result = driver.streamQuery(handle)
      // CUDA_ERROR_NOT_READY.
      if result == 600 { return false }
      try driver.check("cuStreamQuery", result)
      return true
    }
  }
}
