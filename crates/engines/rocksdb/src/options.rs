// SPDX-License-Identifier: Apache-2.0
//! How RocksDB is set up.

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, LogLevel};

/// Tables in level 0 from which on writers are slowed down, and from which on they wait. Each
/// checkpoint makes one.
const LEVEL_0_TABLES_SLOW: i32 = 24;
const LEVEL_0_TABLES_MAX: i32 = 48;

/// Memtables that are there at once: one is filled, the others are made into tables.
const MEMTABLES_MAX: i32 = 4;

/// Threads that make tables and compact them.
const BACKGROUND_JOBS: i32 = 2;

/// A part of an index or a filter, in bytes.
const METADATA_BLOCK_BYTES: usize = 4 << 10;

/// RocksDB's diary `LOG`: files, and bytes of each.
const DIARIES: usize = 4;
const DIARY_BYTES: usize = 4 << 20;

/// How much RocksDB keeps in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// One memtable, in bytes; there may be four.
    pub write_buffer_size_bytes: usize,
    /// Blocks of tables, with their indexes and filters, in bytes.
    pub block_cache_size_bytes: usize,
    /// Room that a batch leaves on the disk beside that for the tables of all memtables, in
    /// bytes: for manifests and for compaction. Below it RocksDB may meet a full disk.
    pub margin_bytes: u64,
}

impl Options {
    /// What a filer uses.
    pub const STANDARD: Self = Self {
        write_buffer_size_bytes: 16 << 20,
        block_cache_size_bytes: 64 << 20,
        margin_bytes: 16 << 20,
    };

    pub(crate) fn raw(self, makes: bool) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(makes);
        options.set_paranoid_checks(true);
        options.set_write_buffer_size(self.write_buffer_size_bytes);
        options.set_max_write_buffer_number(MEMTABLES_MAX);
        options.set_level_zero_slowdown_writes_trigger(LEVEL_0_TABLES_SLOW);
        options.set_level_zero_stop_writes_trigger(LEVEL_0_TABLES_MAX);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_background_jobs(BACKGROUND_JOBS);
        options.set_max_open_files(1000);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(DIARIES);
        options.set_max_log_file_size(DIARY_BYTES);
        options.set_stats_dump_period_sec(0);
        // Level 0, the one below it, and all that are below that.
        options.set_compression_per_level(&[
            DBCompressionType::None,
            DBCompressionType::Lz4,
            DBCompressionType::Lz4,
        ]);
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(self.block_cache_size_bytes));
        // Else they grow with the store.
        tables.set_cache_index_and_filter_blocks(true);
        // In parts: the cache is many small ones, none of which takes an index or a filter of a
        // big table, and each lookup would read it from the file.
        tables.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        tables.set_partition_filters(true);
        tables.set_metadata_block_size(METADATA_BLOCK_BYTES);
        tables.set_pin_top_level_index_and_filter(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        tables.set_bloom_filter(10.0, false);
        options.set_block_based_table_factory(&tables);
        options
    }
}
