/// The server's error conditions by their names (manual, appendix "PostgreSQL Error Codes"; made from its errcodes.txt).
extension PostgresError.Code {
    // Class 00 - Successful Completion
    public static let successfulCompletion = Self("00000")

    // Class 01 - Warning
    public static let warning = Self("01000")
    public static let dynamicResultSetsReturned = Self("0100C")
    public static let implicitZeroBitPadding = Self("01008")
    public static let nullValueEliminatedInSetFunction = Self("01003")
    public static let privilegeNotGranted = Self("01007")
    public static let privilegeNotRevoked = Self("01006")
    public static let stringDataRightTruncation = Self("01004")
    public static let deprecatedFeature = Self("01P01")

    // Class 02 - No Data (this is also a warning class per the SQL standard)
    public static let noData = Self("02000")
    public static let noAdditionalDynamicResultSetsReturned = Self("02001")

    // Class 03 - SQL Statement Not Yet Complete
    public static let sqlStatementNotYetComplete = Self("03000")

    // Class 08 - Connection Exception
    public static let connectionException = Self("08000")
    public static let connectionDoesNotExist = Self("08003")
    public static let connectionFailure = Self("08006")
    public static let sqlclientUnableToEstablishSqlconnection = Self("08001")
    public static let sqlserverRejectedEstablishmentOfSqlconnection = Self("08004")
    public static let transactionResolutionUnknown = Self("08007")
    public static let protocolViolation = Self("08P01")

    // Class 09 - Triggered Action Exception
    public static let triggeredActionException = Self("09000")

    // Class 0A - Feature Not Supported
    public static let featureNotSupported = Self("0A000")

    // Class 0B - Invalid Transaction Initiation
    public static let invalidTransactionInitiation = Self("0B000")

    // Class 0F - Locator Exception
    public static let locatorException = Self("0F000")
    public static let invalidLocatorSpecification = Self("0F001")

    // Class 0L - Invalid Grantor
    public static let invalidGrantor = Self("0L000")
    public static let invalidGrantOperation = Self("0LP01")

    // Class 0P - Invalid Role Specification
    public static let invalidRoleSpecification = Self("0P000")

    // Class 0Z - Diagnostics Exception
    public static let diagnosticsException = Self("0Z000")
    public static let stackedDiagnosticsAccessedWithoutActiveHandler = Self("0Z002")

    // Class 20 - Case Not Found
    public static let caseNotFound = Self("20000")

    // Class 21 - Cardinality Violation
    public static let cardinalityViolation = Self("21000")

    // Class 22 - Data Exception
    public static let dataException = Self("22000")
    public static let arraySubscriptError = Self("2202E")
    public static let characterNotInRepertoire = Self("22021")
    public static let datetimeFieldOverflow = Self("22008")
    public static let divisionByZero = Self("22012")
    public static let errorInAssignment = Self("22005")
    public static let escapeCharacterConflict = Self("2200B")
    public static let indicatorOverflow = Self("22022")
    public static let intervalFieldOverflow = Self("22015")
    public static let invalidArgumentForLogarithm = Self("2201E")
    public static let invalidArgumentForNtileFunction = Self("22014")
    public static let invalidArgumentForNthValueFunction = Self("22016")
    public static let invalidArgumentForPowerFunction = Self("2201F")
    public static let invalidArgumentForWidthBucketFunction = Self("2201G")
    public static let invalidCharacterValueForCast = Self("22018")
    public static let invalidDatetimeFormat = Self("22007")
    public static let invalidEscapeCharacter = Self("22019")
    public static let invalidEscapeOctet = Self("2200D")
    public static let invalidEscapeSequence = Self("22025")
    public static let nonstandardUseOfEscapeCharacter = Self("22P06")
    public static let invalidIndicatorParameterValue = Self("22010")
    public static let invalidParameterValue = Self("22023")
    public static let invalidPrecedingOrFollowingSize = Self("22013")
    public static let invalidRegularExpression = Self("2201B")
    public static let invalidRowCountInLimitClause = Self("2201W")
    public static let invalidRowCountInResultOffsetClause = Self("2201X")
    public static let invalidTablesampleArgument = Self("2202H")
    public static let invalidTablesampleRepeat = Self("2202G")
    public static let invalidTimeZoneDisplacementValue = Self("22009")
    public static let invalidUseOfEscapeCharacter = Self("2200C")
    public static let mostSpecificTypeMismatch = Self("2200G")
    public static let nullValueNotAllowed = Self("22004")
    public static let nullValueNoIndicatorParameter = Self("22002")
    public static let numericValueOutOfRange = Self("22003")
    public static let sequenceGeneratorLimitExceeded = Self("2200H")
    public static let stringDataLengthMismatch = Self("22026")
    public static let dataStringDataRightTruncation = Self("22001")
    public static let substringError = Self("22011")
    public static let trimError = Self("22027")
    public static let unterminatedCString = Self("22024")
    public static let zeroLengthCharacterString = Self("2200F")
    public static let floatingPointException = Self("22P01")
    public static let invalidTextRepresentation = Self("22P02")
    public static let invalidBinaryRepresentation = Self("22P03")
    public static let badCopyFileFormat = Self("22P04")
    public static let untranslatableCharacter = Self("22P05")
    public static let notAnXmlDocument = Self("2200L")
    public static let invalidXmlDocument = Self("2200M")
    public static let invalidXmlContent = Self("2200N")
    public static let invalidXmlComment = Self("2200S")
    public static let invalidXmlProcessingInstruction = Self("2200T")
    public static let duplicateJsonObjectKeyValue = Self("22030")
    public static let invalidArgumentForSqlJsonDatetimeFunction = Self("22031")
    public static let invalidJsonText = Self("22032")
    public static let invalidSqlJsonSubscript = Self("22033")
    public static let moreThanOneSqlJsonItem = Self("22034")
    public static let noSqlJsonItem = Self("22035")
    public static let nonNumericSqlJsonItem = Self("22036")
    public static let nonUniqueKeysInAJsonObject = Self("22037")
    public static let singletonSqlJsonItemRequired = Self("22038")
    public static let sqlJsonArrayNotFound = Self("22039")
    public static let sqlJsonMemberNotFound = Self("2203A")
    public static let sqlJsonNumberNotFound = Self("2203B")
    public static let sqlJsonObjectNotFound = Self("2203C")
    public static let tooManyJsonArrayElements = Self("2203D")
    public static let tooManyJsonObjectMembers = Self("2203E")
    public static let sqlJsonScalarRequired = Self("2203F")
    public static let sqlJsonItemCannotBeCastToTargetType = Self("2203G")

    // Class 23 - Integrity Constraint Violation
    public static let integrityConstraintViolation = Self("23000")
    public static let restrictViolation = Self("23001")
    public static let notNullViolation = Self("23502")
    public static let foreignKeyViolation = Self("23503")
    public static let uniqueViolation = Self("23505")
    public static let checkViolation = Self("23514")
    public static let exclusionViolation = Self("23P01")

    // Class 24 - Invalid Cursor State
    public static let invalidCursorState = Self("24000")

    // Class 25 - Invalid Transaction State
    public static let invalidTransactionState = Self("25000")
    public static let activeSqlTransaction = Self("25001")
    public static let branchTransactionAlreadyActive = Self("25002")
    public static let heldCursorRequiresSameIsolationLevel = Self("25008")
    public static let inappropriateAccessModeForBranchTransaction = Self("25003")
    public static let inappropriateIsolationLevelForBranchTransaction = Self("25004")
    public static let noActiveSqlTransactionForBranchTransaction = Self("25005")
    public static let readOnlySqlTransaction = Self("25006")
    public static let schemaAndDataStatementMixingNotSupported = Self("25007")
    public static let noActiveSqlTransaction = Self("25P01")
    public static let inFailedSqlTransaction = Self("25P02")
    public static let idleInTransactionSessionTimeout = Self("25P03")

    // Class 26 - Invalid SQL Statement Name
    public static let invalidSqlStatementName = Self("26000")

    // Class 27 - Triggered Data Change Violation
    public static let triggeredDataChangeViolation = Self("27000")

    // Class 28 - Invalid Authorization Specification
    public static let invalidAuthorizationSpecification = Self("28000")
    public static let invalidPassword = Self("28P01")

    // Class 2B - Dependent Privilege Descriptors Still Exist
    public static let dependentPrivilegeDescriptorsStillExist = Self("2B000")
    public static let dependentObjectsStillExist = Self("2BP01")

    // Class 2D - Invalid Transaction Termination
    public static let invalidTransactionTermination = Self("2D000")

    // Class 2F - SQL Routine Exception
    public static let sqlRoutineException = Self("2F000")
    public static let functionExecutedNoReturnStatement = Self("2F005")
    public static let modifyingSqlDataNotPermitted = Self("2F002")
    public static let prohibitedSqlStatementAttempted = Self("2F003")
    public static let readingSqlDataNotPermitted = Self("2F004")

    // Class 34 - Invalid Cursor Name
    public static let invalidCursorName = Self("34000")

    // Class 38 - External Routine Exception
    public static let externalRoutineException = Self("38000")
    public static let containingSqlNotPermitted = Self("38001")
    public static let externalRoutineModifyingSqlDataNotPermitted = Self("38002")
    public static let externalRoutineProhibitedSqlStatementAttempted = Self("38003")
    public static let externalRoutineReadingSqlDataNotPermitted = Self("38004")

    // Class 39 - External Routine Invocation Exception
    public static let externalRoutineInvocationException = Self("39000")
    public static let invalidSqlstateReturned = Self("39001")
    public static let externalRoutineInvocationNullValueNotAllowed = Self("39004")
    public static let triggerProtocolViolated = Self("39P01")
    public static let srfProtocolViolated = Self("39P02")
    public static let eventTriggerProtocolViolated = Self("39P03")

    // Class 3B - Savepoint Exception
    public static let savepointException = Self("3B000")
    public static let invalidSavepointSpecification = Self("3B001")

    // Class 3D - Invalid Catalog Name
    public static let invalidCatalogName = Self("3D000")

    // Class 3F - Invalid Schema Name
    public static let invalidSchemaName = Self("3F000")

    // Class 40 - Transaction Rollback
    public static let transactionRollback = Self("40000")
    public static let transactionIntegrityConstraintViolation = Self("40002")
    public static let serializationFailure = Self("40001")
    public static let statementCompletionUnknown = Self("40003")
    public static let deadlockDetected = Self("40P01")

    // Class 42 - Syntax Error or Access Rule Violation
    public static let syntaxErrorOrAccessRuleViolation = Self("42000")
    public static let syntaxError = Self("42601")
    public static let insufficientPrivilege = Self("42501")
    public static let cannotCoerce = Self("42846")
    public static let groupingError = Self("42803")
    public static let windowingError = Self("42P20")
    public static let invalidRecursion = Self("42P19")
    public static let invalidForeignKey = Self("42830")
    public static let invalidName = Self("42602")
    public static let nameTooLong = Self("42622")
    public static let reservedName = Self("42939")
    public static let datatypeMismatch = Self("42804")
    public static let indeterminateDatatype = Self("42P18")
    public static let collationMismatch = Self("42P21")
    public static let indeterminateCollation = Self("42P22")
    public static let wrongObjectType = Self("42809")
    public static let generatedAlways = Self("428C9")
    public static let undefinedColumn = Self("42703")
    public static let undefinedFunction = Self("42883")
    public static let undefinedTable = Self("42P01")
    public static let undefinedParameter = Self("42P02")
    public static let undefinedObject = Self("42704")
    public static let duplicateColumn = Self("42701")
    public static let duplicateCursor = Self("42P03")
    public static let duplicateDatabase = Self("42P04")
    public static let duplicateFunction = Self("42723")
    public static let duplicatePreparedStatement = Self("42P05")
    public static let duplicateSchema = Self("42P06")
    public static let duplicateTable = Self("42P07")
    public static let duplicateAlias = Self("42712")
    public static let duplicateObject = Self("42710")
    public static let ambiguousColumn = Self("42702")
    public static let ambiguousFunction = Self("42725")
    public static let ambiguousParameter = Self("42P08")
    public static let ambiguousAlias = Self("42P09")
    public static let invalidColumnReference = Self("42P10")
    public static let invalidColumnDefinition = Self("42611")
    public static let invalidCursorDefinition = Self("42P11")
    public static let invalidDatabaseDefinition = Self("42P12")
    public static let invalidFunctionDefinition = Self("42P13")
    public static let invalidPreparedStatementDefinition = Self("42P14")
    public static let invalidSchemaDefinition = Self("42P15")
    public static let invalidTableDefinition = Self("42P16")
    public static let invalidObjectDefinition = Self("42P17")

    // Class 44 - WITH CHECK OPTION Violation
    public static let withCheckOptionViolation = Self("44000")

    // Class 53 - Insufficient Resources
    public static let insufficientResources = Self("53000")
    public static let diskFull = Self("53100")
    public static let outOfMemory = Self("53200")
    public static let tooManyConnections = Self("53300")
    public static let configurationLimitExceeded = Self("53400")

    // Class 54 - Program Limit Exceeded
    public static let programLimitExceeded = Self("54000")
    public static let statementTooComplex = Self("54001")
    public static let tooManyColumns = Self("54011")
    public static let tooManyArguments = Self("54023")

    // Class 55 - Object Not In Prerequisite State
    public static let objectNotInPrerequisiteState = Self("55000")
    public static let objectInUse = Self("55006")
    public static let cantChangeRuntimeParam = Self("55P02")
    public static let lockNotAvailable = Self("55P03")
    public static let unsafeNewEnumValueUsage = Self("55P04")

    // Class 57 - Operator Intervention
    public static let operatorIntervention = Self("57000")
    public static let queryCanceled = Self("57014")
    public static let adminShutdown = Self("57P01")
    public static let crashShutdown = Self("57P02")
    public static let cannotConnectNow = Self("57P03")
    public static let databaseDropped = Self("57P04")
    public static let idleSessionTimeout = Self("57P05")

    // Class 58 - System Error (errors external to PostgreSQL itself)
    public static let systemError = Self("58000")
    public static let ioError = Self("58030")
    public static let undefinedFile = Self("58P01")
    public static let duplicateFile = Self("58P02")

    // Class 72 - Snapshot Failure
    public static let snapshotTooOld = Self("72000")

    // Class F0 - Configuration File Error
    public static let configFileError = Self("F0000")
    public static let lockFileExists = Self("F0001")

    // Class HV - Foreign Data Wrapper Error (SQL/MED)
    public static let fdwError = Self("HV000")
    public static let fdwColumnNameNotFound = Self("HV005")
    public static let fdwDynamicParameterValueNeeded = Self("HV002")
    public static let fdwFunctionSequenceError = Self("HV010")
    public static let fdwInconsistentDescriptorInformation = Self("HV021")
    public static let fdwInvalidAttributeValue = Self("HV024")
    public static let fdwInvalidColumnName = Self("HV007")
    public static let fdwInvalidColumnNumber = Self("HV008")
    public static let fdwInvalidDataType = Self("HV004")
    public static let fdwInvalidDataTypeDescriptors = Self("HV006")
    public static let fdwInvalidDescriptorFieldIdentifier = Self("HV091")
    public static let fdwInvalidHandle = Self("HV00B")
    public static let fdwInvalidOptionIndex = Self("HV00C")
    public static let fdwInvalidOptionName = Self("HV00D")
    public static let fdwInvalidStringLengthOrBufferLength = Self("HV090")
    public static let fdwInvalidStringFormat = Self("HV00A")
    public static let fdwInvalidUseOfNullPointer = Self("HV009")
    public static let fdwTooManyHandles = Self("HV014")
    public static let fdwOutOfMemory = Self("HV001")
    public static let fdwNoSchemas = Self("HV00P")
    public static let fdwOptionNameNotFound = Self("HV00J")
    public static let fdwReplyHandle = Self("HV00K")
    public static let fdwSchemaNotFound = Self("HV00Q")
    public static let fdwTableNotFound = Self("HV00R")
    public static let fdwUnableToCreateExecution = Self("HV00L")
    public static let fdwUnableToCreateReply = Self("HV00M")
    public static let fdwUnableToEstablishConnection = Self("HV00N")

    // Class P0 - PL/pgSQL Error
    public static let plpgsqlError = Self("P0000")
    public static let raiseException = Self("P0001")
    public static let noDataFound = Self("P0002")
    public static let tooManyRows = Self("P0003")
    public static let assertFailure = Self("P0004")

    // Class XX - Internal Error
    public static let internalError = Self("XX000")
    public static let dataCorrupted = Self("XX001")
    public static let indexCorrupted = Self("XX002")

    /// The condition's name in the manual, such as `unique_violation`; nil for the library's own codes and for SQLSTATEs that
    /// extensions made up.
    public var conditionName: String? { Self.conditionNames[rawValue] }

    private static let conditionNames: [String: String] = [
        "00000": "successful_completion",
        "01000": "warning",
        "0100C": "dynamic_result_sets_returned",
        "01008": "implicit_zero_bit_padding",
        "01003": "null_value_eliminated_in_set_function",
        "01007": "privilege_not_granted",
        "01006": "privilege_not_revoked",
        "01004": "string_data_right_truncation",
        "01P01": "deprecated_feature",
        "02000": "no_data",
        "02001": "no_additional_dynamic_result_sets_returned",
        "03000": "sql_statement_not_yet_complete",
        "08000": "connection_exception",
        "08003": "connection_does_not_exist",
        "08006": "connection_failure",
        "08001": "sqlclient_unable_to_establish_sqlconnection",
        "08004": "sqlserver_rejected_establishment_of_sqlconnection",
        "08007": "transaction_resolution_unknown",
        "08P01": "protocol_violation",
        "09000": "triggered_action_exception",
        "0A000": "feature_not_supported",
        "0B000": "invalid_transaction_initiation",
        "0F000": "locator_exception",
        "0F001": "invalid_locator_specification",
        "0L000": "invalid_grantor",
        "0LP01": "invalid_grant_operation",
        "0P000": "invalid_role_specification",
        "0Z000": "diagnostics_exception",
        "0Z002": "stacked_diagnostics_accessed_without_active_handler",
        "20000": "case_not_found",
        "21000": "cardinality_violation",
        "22000": "data_exception",
        "2202E": "array_subscript_error",
        "22021": "character_not_in_repertoire",
        "22008": "datetime_field_overflow",
        "22012": "division_by_zero",
        "22005": "error_in_assignment",
        "2200B": "escape_character_conflict",
        "22022": "indicator_overflow",
        "22015": "interval_field_overflow",
        "2201E": "invalid_argument_for_logarithm",
        "22014": "invalid_argument_for_ntile_function",
        "22016": "invalid_argument_for_nth_value_function",
        "2201F": "invalid_argument_for_power_function",
        "2201G": "invalid_argument_for_width_bucket_function",
        "22018": "invalid_character_value_for_cast",
        "22007": "invalid_datetime_format",
        "22019": "invalid_escape_character",
        "2200D": "invalid_escape_octet",
        "22025": "invalid_escape_sequence",
        "22P06": "nonstandard_use_of_escape_character",
        "22010": "invalid_indicator_parameter_value",
        "22023": "invalid_parameter_value",
        "22013": "invalid_preceding_or_following_size",
        "2201B": "invalid_regular_expression",
        "2201W": "invalid_row_count_in_limit_clause",
        "2201X": "invalid_row_count_in_result_offset_clause",
        "2202H": "invalid_tablesample_argument",
        "2202G": "invalid_tablesample_repeat",
        "22009": "invalid_time_zone_displacement_value",
        "2200C": "invalid_use_of_escape_character",
        "2200G": "most_specific_type_mismatch",
        "22004": "null_value_not_allowed",
        "22002": "null_value_no_indicator_parameter",
        "22003": "numeric_value_out_of_range",
        "2200H": "sequence_generator_limit_exceeded",
        "22026": "string_data_length_mismatch",
        "22001": "string_data_right_truncation",
        "22011": "substring_error",
        "22027": "trim_error",
        "22024": "unterminated_c_string",
        "2200F": "zero_length_character_string",
        "22P01": "floating_point_exception",
        "22P02": "invalid_text_representation",
        "22P03": "invalid_binary_representation",
        "22P04": "bad_copy_file_format",
        "22P05": "untranslatable_character",
        "2200L": "not_an_xml_document",
        "2200M": "invalid_xml_document",
        "2200N": "invalid_xml_content",
        "2200S": "invalid_xml_comment",
        "2200T": "invalid_xml_processing_instruction",
        "22030": "duplicate_json_object_key_value",
        "22031": "invalid_argument_for_sql_json_datetime_function",
        "22032": "invalid_json_text",
        "22033": "invalid_sql_json_subscript",
        "22034": "more_than_one_sql_json_item",
        "22035": "no_sql_json_item",
        "22036": "non_numeric_sql_json_item",
        "22037": "non_unique_keys_in_a_json_object",
        "22038": "singleton_sql_json_item_required",
        "22039": "sql_json_array_not_found",
        "2203A": "sql_json_member_not_found",
        "2203B": "sql_json_number_not_found",
        "2203C": "sql_json_object_not_found",
        "2203D": "too_many_json_array_elements",
        "2203E": "too_many_json_object_members",
        "2203F": "sql_json_scalar_required",
        "2203G": "sql_json_item_cannot_be_cast_to_target_type",
        "23000": "integrity_constraint_violation",
        "23001": "restrict_violation",
        "23502": "not_null_violation",
        "23503": "foreign_key_violation",
        "23505": "unique_violation",
        "23514": "check_violation",
        "23P01": "exclusion_violation",
        "24000": "invalid_cursor_state",
        "25000": "invalid_transaction_state",
        "25001": "active_sql_transaction",
        "25002": "branch_transaction_already_active",
        "25008": "held_cursor_requires_same_isolation_level",
        "25003": "inappropriate_access_mode_for_branch_transaction",
        "25004": "inappropriate_isolation_level_for_branch_transaction",
        "25005": "no_active_sql_transaction_for_branch_transaction",
        "25006": "read_only_sql_transaction",
        "25007": "schema_and_data_statement_mixing_not_supported",
        "25P01": "no_active_sql_transaction",
        "25P02": "in_failed_sql_transaction",
        "25P03": "idle_in_transaction_session_timeout",
        "26000": "invalid_sql_statement_name",
        "27000": "triggered_data_change_violation",
        "28000": "invalid_authorization_specification",
        "28P01": "invalid_password",
        "2B000": "dependent_privilege_descriptors_still_exist",
        "2BP01": "dependent_objects_still_exist",
        "2D000": "invalid_transaction_termination",
        "2F000": "sql_routine_exception",
        "2F005": "function_executed_no_return_statement",
        "2F002": "modifying_sql_data_not_permitted",
        "2F003": "prohibited_sql_statement_attempted",
        "2F004": "reading_sql_data_not_permitted",
        "34000": "invalid_cursor_name",
        "38000": "external_routine_exception",
        "38001": "containing_sql_not_permitted",
        "38002": "modifying_sql_data_not_permitted",
        "38003": "prohibited_sql_statement_attempted",
        "38004": "reading_sql_data_not_permitted",
        "39000": "external_routine_invocation_exception",
        "39001": "invalid_sqlstate_returned",
        "39004": "null_value_not_allowed",
        "39P01": "trigger_protocol_violated",
        "39P02": "srf_protocol_violated",
        "39P03": "event_trigger_protocol_violated",
        "3B000": "savepoint_exception",
        "3B001": "invalid_savepoint_specification",
        "3D000": "invalid_catalog_name",
        "3F000": "invalid_schema_name",
        "40000": "transaction_rollback",
        "40002": "transaction_integrity_constraint_violation",
        "40001": "serialization_failure",
        "40003": "statement_completion_unknown",
        "40P01": "deadlock_detected",
        "42000": "syntax_error_or_access_rule_violation",
        "42601": "syntax_error",
        "42501": "insufficient_privilege",
        "42846": "cannot_coerce",
        "42803": "grouping_error",
        "42P20": "windowing_error",
        "42P19": "invalid_recursion",
        "42830": "invalid_foreign_key",
        "42602": "invalid_name",
        "42622": "name_too_long",
        "42939": "reserved_name",
        "42804": "datatype_mismatch",
        "42P18": "indeterminate_datatype",
        "42P21": "collation_mismatch",
        "42P22": "indeterminate_collation",
        "42809": "wrong_object_type",
        "428C9": "generated_always",
        "42703": "undefined_column",
        "42883": "undefined_function",
        "42P01": "undefined_table",
        "42P02": "undefined_parameter",
        "42704": "undefined_object",
        "42701": "duplicate_column",
        "42P03": "duplicate_cursor",
        "42P04": "duplicate_database",
        "42723": "duplicate_function",
        "42P05": "duplicate_prepared_statement",
        "42P06": "duplicate_schema",
        "42P07": "duplicate_table",
        "42712": "duplicate_alias",
        "42710": "duplicate_object",
        "42702": "ambiguous_column",
        "42725": "ambiguous_function",
        "42P08": "ambiguous_parameter",
        "42P09": "ambiguous_alias",
        "42P10": "invalid_column_reference",
        "42611": "invalid_column_definition",
        "42P11": "invalid_cursor_definition",
        "42P12": "invalid_database_definition",
        "42P13": "invalid_function_definition",
        "42P14": "invalid_prepared_statement_definition",
        "42P15": "invalid_schema_definition",
        "42P16": "invalid_table_definition",
        "42P17": "invalid_object_definition",
        "44000": "with_check_option_violation",
        "53000": "insufficient_resources",
        "53100": "disk_full",
        "53200": "out_of_memory",
        "53300": "too_many_connections",
        "53400": "configuration_limit_exceeded",
        "54000": "program_limit_exceeded",
        "54001": "statement_too_complex",
        "54011": "too_many_columns",
        "54023": "too_many_arguments",
        "55000": "object_not_in_prerequisite_state",
        "55006": "object_in_use",
        "55P02": "cant_change_runtime_param",
        "55P03": "lock_not_available",
        "55P04": "unsafe_new_enum_value_usage",
        "57000": "operator_intervention",
        "57014": "query_canceled",
        "57P01": "admin_shutdown",
        "57P02": "crash_shutdown",
        "57P03": "cannot_connect_now",
        "57P04": "database_dropped",
        "57P05": "idle_session_timeout",
        "58000": "system_error",
        "58030": "io_error",
        "58P01": "undefined_file",
        "58P02": "duplicate_file",
        "72000": "snapshot_too_old",
        "F0000": "config_file_error",
        "F0001": "lock_file_exists",
        "HV000": "fdw_error",
        "HV005": "fdw_column_name_not_found",
        "HV002": "fdw_dynamic_parameter_value_needed",
        "HV010": "fdw_function_sequence_error",
        "HV021": "fdw_inconsistent_descriptor_information",
        "HV024": "fdw_invalid_attribute_value",
        "HV007": "fdw_invalid_column_name",
        "HV008": "fdw_invalid_column_number",
        "HV004": "fdw_invalid_data_type",
        "HV006": "fdw_invalid_data_type_descriptors",
        "HV091": "fdw_invalid_descriptor_field_identifier",
        "HV00B": "fdw_invalid_handle",
        "HV00C": "fdw_invalid_option_index",
        "HV00D": "fdw_invalid_option_name",
        "HV090": "fdw_invalid_string_length_or_buffer_length",
        "HV00A": "fdw_invalid_string_format",
        "HV009": "fdw_invalid_use_of_null_pointer",
        "HV014": "fdw_too_many_handles",
        "HV001": "fdw_out_of_memory",
        "HV00P": "fdw_no_schemas",
        "HV00J": "fdw_option_name_not_found",
        "HV00K": "fdw_reply_handle",
        "HV00Q": "fdw_schema_not_found",
        "HV00R": "fdw_table_not_found",
        "HV00L": "fdw_unable_to_create_execution",
        "HV00M": "fdw_unable_to_create_reply",
        "HV00N": "fdw_unable_to_establish_connection",
        "P0000": "plpgsql_error",
        "P0001": "raise_exception",
        "P0002": "no_data_found",
        "P0003": "too_many_rows",
        "P0004": "assert_failure",
        "XX000": "internal_error",
        "XX001": "data_corrupted",
        "XX002": "index_corrupted",
    ]
}
