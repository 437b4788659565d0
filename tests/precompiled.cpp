// Nothing: a target that has precompiled headers has to have a source.
